"""Shipped policies: a run's acting weights, alone, act as the run does; what cannot be shipped is refused."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from small_runs import SMALL, write_demos

from vmil import cli
from vmil.algorithms import make_learner
from vmil.analysis.ship import portable
from vmil.config.load import load_config, load_saved_config
from vmil.config.runs import CONFIG_FILE, POLICY_FILE, find_pretrained, shipped_policies
from vmil.errors import UserError
from vmil.system.provenance import sha256
from vmil.training import pretrained
from vmil.training.pretrained import CheckedPolicy, load_policy, read_imported
from vmil.training.restore import frames_in
from vmil.training.trained import trained_learner

pytestmark = pytest.mark.filterwarnings("ignore")

# What acts, and what must not travel: what judges, values or draws.
NETWORKS = {
    "vmil_plus": {"encoder", "rssm", "actor"},
    "sqil_drq": {"encoder", "actor"},
    "dac_drq": {"encoder", "actor"},
    "bc": {"encoder", "actor"},
}
EXTRA = {
    "vmil_plus": ("behaviour.actor_average=0.5",),  # the averaged actor is the one that is evaluated
    "sqil_drq": ("training.seed_frames=12", "training.batch_size=4"),
    "dac_drq": ("training.seed_frames=12", "training.batch_size=4"),
    "bc": ("training.batch_size=4",),
}
IMPORTED = {"alignment": "at", "resize": "crop", "action_low": [-0.2], "action_high": [0.4], "proprio": []}
OF_VMIL = ("training.pretrain_updates", "training.batch_length", "behaviour.")


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A finished run of two rounds and the policy made of it."""
    root, algo = tmp_path_factory.mktemp(request.param), request.param
    write_demos(root / "demos", **IMPORTED)
    usual = [item for item in SMALL if algo == "vmil_plus" or not item.startswith(OF_VMIL)]
    where = [f"run.root={root}", f"demos.path={root}/demos", f"demos.cache_dir={root}/cache", "run.name=run"]
    settings = [*usual, *where, *EXTRA[algo], f"algo={algo}", "training.frames=24", "tracking.kind=csv"]
    assert cli.main(["train", *settings]) == 0
    assert cli.main(["ship", f"run={root}/run", f"out={root}/out/tiny", "machine=a small one", "note=only a test"]) == 0
    return SimpleNamespace(algo=algo, run=root / "run", out=root / "out" / "tiny", root=root)


def test_it_acts_as_the_run_does_and_holds_no_more_than_that_takes(shipped: SimpleNamespace) -> None:
    with safe_open(shipped.out / POLICY_FILE, framework="pt") as file:
        names = list(file.keys())
    assert {name.partition(".")[0] for name in names} == NETWORKS[shipped.algo]
    config = load_saved_config(shipped.run / CONFIG_FILE)
    # A shipped policy runs in whatever precision its machine is best at; here it is to be the run's.
    alike = load_saved_config(shipped.out / CONFIG_FILE, [f"compute.precision={config.compute.precision}"])
    policy, expert = load_policy(shipped.out, alike, make_learner)
    assert expert == 6.0  # twelve steps of 0.5
    learner, _ = trained_learner(shipped.run, config, make_learner)
    own = learner.evaluation_policy()
    first = torch.ones(2, dtype=torch.bool)
    for step in range(3):
        image = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
        acted = []
        for each in (policy, own):
            torch.manual_seed(step)
            acted.append(each(image, None, first))
        assert torch.equal(*acted)
        first = torch.zeros(2, dtype=torch.bool)
    assert acted[0].abs().sum() > 0


def test_what_a_policy_was_not_trained_on_is_refused_in_one_sentence(shipped: SimpleNamespace) -> None:
    policy, _ = load_policy(shipped.out, load_saved_config(shipped.out / CONFIG_FILE), make_learner)
    image, first = torch.zeros(2, 64, 64, 3, dtype=torch.uint8), torch.ones(2, dtype=torch.bool)
    wrong: list[tuple[Any, Any, Any, str]] = [
        (image.float(), None, first, "image must be .* torch.uint8 .*, and is torch.float32 of shape"),
        (image.movedim(3, 1), None, first, r"image must be .* \(N, 64, 64, 3\), and is .* \(2, 3, 64, 64\)"),
        (image[0], None, first, r"image must be .* \(N, 64, 64, 3\), and is .* \(64, 64, 3\)"),
        (image.numpy(), None, first, "image must be a tensor, .*, and is ndarray"),
        (image, torch.zeros(2, 3), first, "proprio must be None"),
        (image, None, first.float(), "is_first must be .* torch.bool .*, and is torch.float32"),
        (image, None, first[:1], r"is_first must be .* \(2,\), and is .* \(1,\)"),
        (image, None, ~first, "is_first must be true in all 2 rows at the first call"),
    ]
    for *given, said in wrong:
        with pytest.raises(UserError, match=said):
            policy(*given)
    assert policy(image, None, first).shape == (2, 1)
    assert policy(image, None, ~first).shape == (2, 1)
    with pytest.raises(UserError, match="more or fewer rows"):
        policy(image[:1], None, ~first[:1])


def test_a_policy_trained_on_a_vector_asks_for_it() -> None:
    seeing = CheckedPolicy(SimpleNamespace(), 64, 3)  # type: ignore[arg-type]
    image, first = torch.zeros(2, 64, 64, 3, dtype=torch.uint8), torch.ones(2, dtype=torch.bool)
    for given in (None, torch.zeros(2, 4), torch.zeros(2, 3, dtype=torch.float64)):
        with pytest.raises(UserError, match=r"proprio must be a tensor, torch.float32 of shape \(2, 3\), and is"):
            seeing(image, given, first)


def test_the_card_says_how_it_was_made_and_what_it_scores(shipped: SimpleNamespace) -> None:
    text = (shipped.out / "CARD.md").read_text()
    for said in (
        f"make train ENV=counting ALGO={shipped.algo} SEED=0",
        "**0.0 ± 0.0 over 10 episodes, 0.0 % of the expert**",
        "| seed | 0 |",
        "| environment frames, updates | 24, ",
        "| machine | a small one |",
        "| the run | FINISHED |",
        "| note | only a test |",
        "| pictures | resize=crop |",
        "| actions in the robot's units | `low + (action + 1) / 2 * (high - low)`, low [-0.2], high [0.4] |",
        "| alignment of the source | at |",
        f"`{sha256(shipped.out / POLICY_FILE)}`",
        f"`{sha256(shipped.out / CONFIG_FILE)}`",
    ):
        assert said in text, said
    assert "Not imitation" not in text
    everything = text + (shipped.out / CONFIG_FILE).read_text()
    assert str(shipped.root) not in everything
    assert sorted(path.name for path in shipped.out.parent.iterdir()) == ["tiny"]


def test_how_its_demonstrations_were_imported_travels_with_it(shipped: SimpleNamespace) -> None:
    assert read_imported(shipped.out) == IMPORTED
    assert read_imported(find_pretrained("walker")) == {}
    with pytest.raises(UserError, match="missing, damaged"):
        read_imported(shipped.root)


def test_it_needs_neither_the_run_nor_its_demonstrations(
    shipped: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped.root.joinpath("demos").rename(shipped.root / "gone")
    try:
        assert cli.main(["evaluate", f"pretrained={shipped.out}", "episodes=2"]) == 0
    finally:
        shipped.root.joinpath("gone").rename(shipped.root / "demos")
    assert capsys.readouterr().out.splitlines() == [
        f"{shipped.algo} on counting: 0.0 ± 0.0 over 2 episodes, 0.0 % of the expert",
        "video: tiny-evaluation.mp4",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-evaluation.mp4"]


def test_what_cannot_be_shipped_is_refused_in_one_sentence(
    shipped: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        capsys.readouterr()
        assert cli.main([*arguments]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    run, out = f"run={shipped.run}", tmp_path / "out"
    assert "episodes=3 is outside [10, inf)" in refused("ship", run, f"out={out}", "episodes=3")
    assert "holds files that are no trained policy's" in refused("ship", run, f"out={shipped.root}")
    monkeypatch.setattr(pretrained, "MAX_BYTES", 1000)
    assert "and a shipped one may have" in refused("ship", run, f"out={out}")
    assert list(tmp_path.iterdir()) == []


def test_a_policy_that_does_not_fit_or_is_damaged_says_so(shipped: SimpleNamespace, tmp_path: Path) -> None:
    section = "behaviour.actor_units" if shipped.algo == "vmil_plus" else "pixels.units"
    other = load_saved_config(shipped.out / CONFIG_FILE, [f"{section}=24"])
    with pytest.raises(UserError, match=r"of another architecture: 'actor\."):
        load_policy(shipped.out, other, make_learner)
    whole = (shipped.out / POLICY_FILE).read_bytes()
    for content in (b"", whole[:-10], b"\x80\x04nonsense" * 9):
        (tmp_path / POLICY_FILE).write_bytes(content)
        with pytest.raises(UserError, match="missing, damaged, or no policy"):
            load_policy(tmp_path, other, make_learner)


@pytest.mark.parametrize("section", [{"frames": 24}, {"ranks": [{"frames": 24}, {"frames": 24}]}])
def test_the_card_of_a_run_counts_the_frames_of_all_its_ranks(section: dict[str, Any]) -> None:
    assert frames_in(Path("last.ckpt"), {"VMILDataModule": section}) == 24


@pytest.mark.parametrize("content", [{}, {"VMILDataModule": {"ranks": []}}, {"VMILDataModule": 5}])
def test_a_checkpoint_without_its_frames_is_damaged(content: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"'last\.ckpt' is damaged"):
        frames_in(Path("last.ckpt"), content)


def test_what_belongs_to_a_machine_stays_there() -> None:
    home = ["demos.path=/home/me/my demos", "demos.cache_dir=/home/me/cache", "run.root=/home/me/runs", "run.name=best"]
    config = portable(load_config(["env=walker", *home, "compute.device=cuda", "compute.threads=3"]))
    assert "/home/me" not in yaml.safe_dump(str(config))
    assert (config.demos.path, config.compute.device, config.compute.threads) == ("my demos", "auto", 0)


def test_a_policy_came_for_each_of_the_four_tasks() -> None:
    assert shipped_policies() == ["baoding", "cheetah", "sawyer", "walker"]


def test_the_walker_that_came_with_vmil_walks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As long as camera, scale of pictures, alignment and length of actions are what it learnt with."""
    assert cli.main(["evaluate", "pretrained=walker", "episodes=1", f"video={tmp_path / 'walk.mp4'}"]) == 0
    [score] = re.findall(r"on walker: (\d+\.\d) ± 0\.0 over 1 episode,", capsys.readouterr().out)
    assert float(score) > 800  # 918 to 942 over ten episodes


@pytest.mark.parametrize("name", shipped_policies())
def test_every_policy_that_comes_with_vmil_fits_its_configuration_and_its_card(name: str) -> None:
    directory = find_pretrained(name)
    load_policy(directory, load_saved_config(directory / CONFIG_FILE), make_learner)
    assert (directory / POLICY_FILE).stat().st_size <= pretrained.MAX_BYTES
    card = (directory / "CARD.md").read_text()
    assert all(f"`{sha256(directory / each)}`" in card for each in (POLICY_FILE, CONFIG_FILE))
