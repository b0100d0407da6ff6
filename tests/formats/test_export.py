"""What is exported and imported again is bit for bit what it was, and other libraries read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from made import STEPS, Bring, actions, make_lerobot, make_npz, pictures, proprio, rewards

from vmil import cli
from vmil.config.load import load_config
from vmil.config.schema import Config
from vmil.config.schema_cli import ExportOptions, ImportOptions
from vmil.data.recording import Recording, read_recording, write_recording
from vmil.errors import UserError
from vmil.exchange.export_demos import export_demos
from vmil.exchange.import_demos import import_demos

WALKER = Path(cli.__file__).parent / "assets" / "walker" / "demos"


@pytest.fixture
def physics_demos(tmp_path: Path) -> Path:
    """Counting demonstrations as physics states."""
    meta = {"format": 1, "env": "counting", "action_repeat": 1}
    for episode in range(3):
        arrays = {"physics": proprio(episode, STEPS + 1).astype(np.float64), "action": actions(episode)}
        write_recording(tmp_path / f"demos/demo_{episode:02d}.npz", {**arrays, "reward": rewards(episode)}, meta)
    return tmp_path / "demos"


def there_and_back(config: Config, format: Any, bring: Bring, tmp_path: Path, **options: Any) -> list[Recording]:
    config.demos.cache_dir = str(tmp_path / "cache")
    out = export_demos(ExportOptions(out=str(tmp_path / "out"), format=format), config, lambda _: None)
    return bring(out, config, **options)[0]


@pytest.mark.parametrize("format", ["npz", "minari"])
def test_a_round_trip_loses_nothing(
    format: str, counting: Config, physics_demos: Path, bring: Bring, tmp_path: Path
) -> None:
    counting.demos.path, counting.env.proprio = str(physics_demos), True
    for episode, recording in enumerate(there_and_back(counting, format, bring, tmp_path)):
        for name, expected in {
            "image": pictures(episode, STEPS + 1),
            "action": actions(episode),
            "reward": rewards(episode),
            "proprio": proprio(episode, STEPS + 1),
            "physics": proprio(episode, STEPS + 1).astype(np.float64),
        }.items():
            assert np.array_equal(getattr(recording, name), expected)
            assert getattr(recording, name).dtype == expected.dtype


@pytest.mark.parametrize("format", ["npz", "minari"])
def test_pictures_without_physics_make_the_trip_too(
    format: str, counting: Config, bring: Bring, tmp_path: Path
) -> None:
    first, _ = bring(make_npz(tmp_path / "npz"), proprio="proprio")
    counting.demos.path = str(first[0].path.parent)
    again = there_and_back(counting, format, bring, tmp_path, proprio="proprio")  # though no run has looked at it
    for before, after in zip(first, again, strict=True):
        assert np.array_equal(before.proprio, after.proprio)  # type: ignore[arg-type]
        assert np.array_equal(before.image, after.image)  # type: ignore[arg-type]
        assert np.array_equal(before.action, after.action)
        assert np.array_equal(before.reward, after.reward)  # type: ignore[arg-type]


def test_dreamer_s_files_hold_the_action_that_led_to_their_image(
    counting: Config, physics_demos: Path, tmp_path: Path
) -> None:
    counting.demos.path, counting.demos.cache_dir = str(physics_demos), str(tmp_path / "cache")
    out = export_demos(ExportOptions(out=str(tmp_path / "out"), format="npz"), counting, lambda _: None)
    with np.load(sorted(out.iterdir())[1]) as file:
        assert np.array_equal(file["image"], pictures(1, STEPS + 1))
        assert not file["action"][0].any()
        assert np.array_equal(file["action"][1:], actions(1))
        assert np.array_equal(file["reward"][1:], rewards(1))
        assert file["discount"].shape == (STEPS + 1,)


def test_minari_itself_reads_what_is_written_without_loss(
    counting: Config, physics_demos: Path, tmp_path: Path
) -> None:
    counting.demos.path, counting.demos.cache_dir = str(physics_demos), str(tmp_path / "cache")
    out = export_demos(ExportOptions(out=str(tmp_path / "out"), format="minari"), counting, lambda _: None)
    dataset = minari.MinariDataset(out / "data")
    assert (dataset.total_episodes, dataset.total_steps) == (3, 3 * STEPS)
    episode = dataset[2]
    assert np.array_equal(episode.observations["image"], pictures(2, STEPS + 1))
    assert np.array_equal(episode.actions, actions(2))
    assert np.array_equal(episode.rewards, rewards(2))
    assert episode.truncations.tolist() == [False] * (STEPS - 1) + [True]


def test_what_a_format_cannot_say_is_refused(counting: Config, bring: Bring, tmp_path: Path) -> None:
    recordings, _ = bring(make_lerobot(tmp_path / "lerobot"))  # no picture after the last action
    counting.demos.path = str(recordings[0].path.parent)
    for format in ("npz", "minari"):
        with pytest.raises(UserError, match="has no image after its last action"):
            there_and_back(counting, format, bring, tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_command_draws_a_subset_and_says_where(
    physics_demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["export-demos", "env=counting", f"demos.path={physics_demos}", f"out={out}"]
    command += [f"demos.cache_dir={tmp_path}"]
    assert cli.main([*command, "demos.count=2"]) == 0
    assert f"2 demonstrations in {out}, format npz" in capsys.readouterr().out
    assert len(list(out.iterdir())) == 2
    assert cli.main(command) == 2
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["export-demos", "env=counting", "format=zarr"]) == 2
    assert "format=zarr is not one of npz, minari" in capsys.readouterr().err


# ---- a simulated task


@pytest.fixture
def walker(tmp_path: Path) -> Config:
    """A walker run with the first steps of two shipped demonstrations."""
    steps = 9
    for path in sorted(WALKER.glob("demo_*.npz"))[:2]:
        demo = read_recording(path)
        assert demo.physics is not None
        assert demo.reward is not None
        arrays = {"physics": demo.physics[: steps + 1], "action": demo.action[:steps], "reward": demo.reward[:steps]}
        write_recording(tmp_path / "walks" / path.name, arrays, demo.meta)
    config = load_config(["env=walker", f"demos.path={tmp_path / 'walks'}"])
    config.demos.cache_dir = str(tmp_path / "cache")
    return config


def test_a_simulated_task_is_replayed_and_its_pictures_are_compared(
    walker: Config, bring: Bring, tmp_path: Path
) -> None:
    out = export_demos(ExportOptions(out=str(tmp_path / "out")), walker, lambda _: None)
    recordings, said = bring(out, walker)
    assert said.count("replays (error") == 2
    assert "own pictures of the same states, in grey levels of 255: " in said
    assert "fast 0.0" in said
    assert "WARNING" not in said
    assert json.loads(json.dumps(recordings[0].meta))["domain"] == "walker"
    with pytest.raises(UserError, match="2 of 2 episodes"):
        bring(out, walker, alignment="at")
    walker.env.render_profile = "standard"
    assert "WARNING: they look like env.render_profile=fast, not standard" in bring(out, walker)[1]


@pytest.mark.parametrize(
    ("repeat", "alignment", "cause"),
    [
        (2, "at", "but they do with action_repeat=2, taken one step earlier: alignment=led_to"),
        (1, "auto", "but they do with action_repeat=2, taken where they are"),
    ],
)
def test_what_does_not_replay_is_refused_with_its_cause(
    repeat: int, alignment: str, cause: str, walker: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = export_demos(ExportOptions(out=str(tmp_path / "out")), walker, lambda _: None)
    capsys.readouterr()
    command = ["import-demos", "env=walker", f"src={out}", f"out={tmp_path / 'again'}", f"alignment={alignment}"]
    assert cli.main([*command, f"env.action_repeat={repeat}"]) == 2
    printed = capsys.readouterr()
    assert printed.out.count("its actions do not lead from state to state (error") == 2
    assert printed.out.count(cause) == 2
    assert "2 of 2 episodes" in printed.err


def test_states_of_another_task_are_refused(walker: Config, tmp_path: Path) -> None:
    out = export_demos(ExportOptions(out=str(tmp_path / "out")), walker, lambda _: None)
    said: list[str] = []
    with pytest.raises(UserError, match="2 of 2 episodes"):
        # cheetah-run has as many actions, and states of as many numbers: only the replay can tell
        import_demos(
            ImportOptions(src=str(out), out=str(tmp_path / "cheetah")), load_config(["env=cheetah"]), said.append
        )
    assert any("its actions do not lead from state to state" in line for line in said)


def test_pictures_without_states_are_compared_by_their_colours(walker: Config, bring: Bring, tmp_path: Path) -> None:
    out = export_demos(ExportOptions(out=str(tmp_path / "out")), walker, lambda _: None)

    def change(**changes: np.ndarray | None) -> None:
        for path in out.iterdir():
            with np.load(path) as file:
                arrays = {name: changes.get(name, file[name]) for name in file.files}
            np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})

    change(physics=None)
    said = bring(out, walker, alignment="led_to")[1]
    assert "replays" not in said
    assert "pixels in colours that 6 first pictures of the run itself do not show: " in said
    assert "WARNING" not in said
    walker.env.render_profile = "standard"
    assert "WARNING: they look like env.render_profile=fast, not standard" in bring(out, walker)[1]
    noise = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), np.uint8)
    change(image=noise)
    assert "WARNING: they are not what this run's camera would show" in bring(out, walker)[1]
