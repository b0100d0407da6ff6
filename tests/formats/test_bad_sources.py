"""Corrupt, truncated, hostile or merely unfit sources: one sentence that names the file, and nothing written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import (
    LOSSLESS,
    STEPS,
    Bring,
    actions,
    make_lerobot,
    make_minari,
    make_npz,
    make_robomimic,
    pictures,
    proprio,
    refused,
    rewards,
)

from vmil.config.schema import Config
from vmil.data.formats import hdf5, parquet
from vmil.data.formats.detect import detect, read_episodes
from vmil.data.formats.parquet import read_parquet
from vmil.data.formats.source import ReadOptions
from vmil.errors import UserError


def verdicts(bring: Bring, source: object, said: list[str], **options: Any) -> None:
    """Imports what is refused episode by episode, and remembers what the table says."""
    recordings, words = bring(source, skip_bad=True, **options)
    assert len(recordings) == 2  # the other two
    said.append(words)


NAN = np.concatenate([np.zeros((1, 1)), np.full((STEPS, 1), np.nan)]).astype(np.float32)
UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "NaN action": ({"action": NAN}, "refused: NaN or infinite in the actions"),
    "infinite action": ({"action": np.where(np.isnan(NAN), np.inf, NAN)}, "refused: NaN or infinite in the actions"),
    "large action": ({"action": 70 * np.arange(STEPS + 1.0)[:, None]}, "refused: actions in [70, 840]: action_low and"),
    "other action size": ({"action": np.zeros((STEPS + 1, 3))}, "refused: 3 action dimensions, the task has 1"),
    "one step": ({name: np.zeros((1, *rest), kind) for name, rest, kind in (
        ("image", (64, 64, 3), np.uint8), ("action", (1,), np.float32), ("reward", (), np.float32),
    )}, "refused: no action"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_an_unfit_episode_is_refused_in_the_table(name: str, bring: Bring, tmp_path: Path) -> None:
    changes, verdict = UNFIT[name]
    said: list[str] = []
    source = make_npz(tmp_path / "npz", **changes)
    verdicts(bring, source, said)
    assert verdict in said[0].splitlines()[2]
    assert "1 of 3 episodes" in refused(bring, source)
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob(".*.part"))


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "other image size": ({"image": np.zeros((STEPS + 1, 32, 32, 3), np.uint8)}, "resize=stretch, or resize=crop"),
    "float image": ({"image": np.zeros((STEPS + 1, 64, 64, 3))}, "images are float64"),
    "grey image": ({"image": np.zeros((STEPS + 1, 64, 64, 1), np.uint8)}, "expected uint8 (N, H, W, 3)"),
    "missing image": ({"image": pictures(1, STEPS)}, "12 images and 13 actions"),
    "missing reward": ({"reward": rewards(1)}, "13 actions but 12 rewards"),
    "first action not zero": ({"action": np.ones((STEPS + 1, 1))}, "say alignment=at"),
    "flat action": ({"action": np.zeros(STEPS + 1)}, "float64 of 1 dimensions"),
    "text action": ({"action": np.full((STEPS + 1, 1), "a")}, "expected numbers (T, A)"),
    "episode that begins within": ({"is_first": np.arange(STEPS + 1) % 6 == 0}, "cut where is_first"),
    "episode that ends within": ({"is_last": np.arange(STEPS + 1) == 5}, "holds several episodes: save one per file"),
    "words for bounds": ({"is_last": np.full(STEPS + 1, "no")}, "is_last is <U2, expected truth values"),
    "pickle": ({"action": np.array([[{}]] * (STEPS + 1), dtype=object)}, "keeps 'action' as pickled objects, which"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_npz_is_one_sentence_that_names_it(name: str, bring: Bring, tmp_path: Path) -> None:
    changes, said = BROKEN[name]
    message = refused(bring, make_npz(tmp_path / "npz", **changes))
    assert said in message
    assert "20200101T000000" in message


def test_proprio_that_is_missing_or_does_not_fit(bring: Bring, counting: Config, tmp_path: Path) -> None:
    counting.env.proprio = True
    source = make_npz(tmp_path / "npz")
    assert bring(source)[0][0].proprio is not None  # `proprio` is looked for without being named
    assert "has no 'joints'" in refused(bring, source, proprio="joints")
    assert "3 of 3 episodes" in refused(bring, source, proprio="reward")  # one number, the task has two


def hostile_hdf5(path: Path, secret: Path) -> dict[str, tuple[Callable[[h5py.Group], object], str]]:
    """What could be done to demo_1 of a robomimic file, and what should be said."""
    external = [(str(secret), 0, STEPS * 8)]
    layout = h5py.VirtualLayout((STEPS, 1), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "x", (STEPS, 1))
    return {
        "link to another file": (
            lambda demo: demo.__setitem__("actions", h5py.ExternalLink(str(secret), "/x")),
            "link",
        ),
        "soft link": (lambda demo: demo.__setitem__("actions", h5py.SoftLink("/data/demo_0/actions")), "link"),
        "content of another file": (
            lambda demo: demo.create_dataset("actions", (STEPS, 1), "f8", external=external),
            "keeps its content in another file",
        ),
        "virtual": (lambda demo: demo.create_virtual_dataset("actions", layout), "keeps its content in another file"),
        "a bomb": (
            lambda demo: demo.create_dataset("actions", (2**34, 1), "f8", chunks=(2**16, 1), compression="gzip"),
            "unpacks to more than",
        ),
        "text": (lambda demo: demo.create_dataset("actions", data=[b"a"] * STEPS), "expected numbers"),
        "a group": (lambda demo: demo.create_group("actions"), "has no array 'actions'"),
        "nothing": (lambda demo: None, "has no array 'actions'"),
        "too few": (lambda demo: demo.create_dataset("actions", data=actions(1)[:-1]), "num_samples is 12"),
    }


@pytest.mark.parametrize("name", hostile_hdf5(Path("x"), Path("y")))
def test_a_hostile_hdf5_is_not_followed(name: str, bring: Bring, tmp_path: Path) -> None:
    path, secret = make_robomimic(tmp_path / "demo.hdf5"), tmp_path / "secret"
    secret.write_bytes(bytes(STEPS * 8))
    change, said = hostile_hdf5(path, secret)[name]
    with h5py.File(path, "a") as file:
        del file["data/demo_1/actions"]
        change(file["data/demo_1"])
    message = refused(bring, path)
    assert said in message
    assert "demo_1" in message


def test_what_a_library_says_of_a_file_is_passed_on(bring: Bring, tmp_path: Path) -> None:
    """A sound file may need what is not installed, such as a compression filter."""
    path, unknown = make_robomimic(tmp_path / "demo.hdf5"), 32999
    with h5py.File(path, "a") as file:
        del file["data/demo_1/actions"]
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((STEPS, 1))
        plan.set_filter(unknown, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((STEPS, 1))
        stored = h5py.h5d.create(file["data/demo_1"].id, b"actions", h5py.h5t.IEEE_F64LE, space, plan)
        stored.write_direct_chunk((0, 0), actions(1).astype(np.float64).tobytes())
    message = refused(bring, path)
    assert f"demo_1/actions' needs HDF5's filter {unknown}, which is not installed" in message
    (tmp_path / "text.hdf5").write_text("not at all")
    assert "or no HDF5 file: Unable to synchronously open file" in refused(bring, tmp_path / "text.hdf5")
    source = make_npz(tmp_path / "npz")
    sorted(source.iterdir())[1].write_bytes(b"junk")
    assert "is corrupt or truncated: File is not a zip file" in refused(bring, source)


def jpeg_rows(path: Path, width: int, chunk: int) -> Path:
    """A robomimic file whose first demonstration has one row that begins as JPEG does."""
    with h5py.File(make_robomimic(path), "a") as file:
        observed = file["data/demo_0/obs"]
        del observed["agentview_image"]
        rows = observed.create_dataset("agentview_image", (1, width), "u1", chunks=(1, chunk), compression="gzip")
        rows[0, :2] = (0xFF, 0xD8)
    return path


def test_rows_of_jpeg_are_bounded(bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = jpeg_rows(tmp_path / "wide.hdf5", 2**36, chunk=2**12)
    assert "agentview_image unpacks to more than 1024 MiB" in refused(bring, wide)
    narrow = jpeg_rows(tmp_path / "narrow.hdf5", 2**12, chunk=2**12)
    assert "a picture is corrupt" in refused(bring, narrow)
    monkeypatch.setattr(hdf5, "MAX_PICTURE", 2**10)
    assert "a picture of 0 MiB is not read" in refused(bring, narrow)
    monkeypatch.setattr(hdf5, "MAX_SOURCE_BYTES", 2**11)  # to look at two bytes would unpack more
    assert "but has none" in refused(bring, narrow)


def test_several_cameras_are_named(bring: Bring, tmp_path: Path) -> None:
    path = make_robomimic(tmp_path / "demo.hdf5", **{"obs/wrist_image": np.zeros((STEPS, 64, 64, 3), np.uint8)})
    assert "image=<one of agentview_image, wrist_image>" in refused(bring, path)
    assert "has no images 'front'" in refused(bring, path, image="front")
    assert len(bring(make_robomimic(tmp_path / "two.hdf5"), image="agentview_image")[0]) == 3


def test_other_hdf5_files_are_not_robomimic_s(bring: Bring, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file["x"] = 1
    assert "neither robomimic's (no group data/demo_0) nor ALOHA's" in refused(bring, tmp_path / "empty.hdf5")
    (tmp_path / "text.hdf5").write_text("not at all")
    assert "text.hdf5 is corrupt" in refused(bring, tmp_path / "text.hdf5")


def test_a_truncated_minari_dataset(bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_minari(tmp_path, monkeypatch)
    data = tmp_path / source / "data"
    with h5py.File(data / "main_data.hdf5", "a") as file:
        del file["episode_1"]
    assert "has 2 episodes, its metadata says 3" in refused(bring, source)
    (data / "metadata.json").write_text("[1")
    assert "metadata.json is corrupt" in refused(bring, source)
    (data / "main_data.hdf5").unlink()
    assert "only HDF5 is read" in refused(bring, source)


LEROBOT: dict[str, tuple[Callable[[Path], object], str]] = {
    "older": (lambda root: edit(root, codebase_version="v2.1"), "version v2.1, v3 is read: python -m lerobot."),
    "path out of the dataset": (lambda root: edit(root, data_path="../../{chunk_index}.parquet"), "does not lead to"),
    "path out of the dataset by a detour": (
        lambda root: edit(root, data_path=f"data/../../{root.name}/../{{chunk_index}}.parquet"),
        "does not lead to",
    ),
    "absolute path": (lambda root: edit(root, data_path="/{chunk_index}.parquet"), "does not lead to"),
    "format attack": (lambda root: edit(root, data_path="{chunk_index.__class__}"), "does not lead to"),
    "more episodes than there are": (lambda root: edit(root, total_episodes=4), "is truncated"),
    "no fps": (lambda root: edit(root, fps=None), "has no fps"),
    "other fps": (lambda root: edit(root, fps=30), "its video lasts 1.200 s"),
    "no features": (lambda root: edit(root, features=[]), "does not describe the features"),
    "no rows": (lambda root: (root / "data/chunk-000/file-001.parquet").unlink(), "file-001.parquet is missing"),
    "torn rows": (lambda root: cut(root / "data/chunk-000/file-001.parquet"), "file-001.parquet is corrupt"),
    "no video": (lambda root: next(root.rglob("file-001.mp4")).unlink(), "file-001.mp4 is missing"),
    "torn video": (lambda root: cut(next(root.rglob("file-001.mp4"))), "file-001.mp4 is "),
    "text for a video": (
        lambda root: next(root.rglob("file-001.mp4")).write_text("x" * 999),
        "file-001.mp4 is corrupt",
    ),
    "episodes swapped": (
        lambda root: shutil.copy(root / "data/chunk-000/file-001.parquet", root / "data/chunk-000/file-000.parquet"),
        "episode_0 is truncated: 0 rows",
    ),
}


def edit(root: Path, **changes: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lerobot(tmp_path_factory.mktemp("lerobot") / "set", LOSSLESS)


@pytest.mark.parametrize("name", LEROBOT)
def test_a_broken_lerobot_dataset(name: str, bring: Bring, lerobot: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(lerobot, root)
    damage, said = LEROBOT[name]
    damage(root)
    assert said in refused(bring, root)


def test_a_parquet_file_that_unpacks_to_any_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.parquet"
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array([bytes(2**16)]))
    pq.write_table(pa.table({"x": repeated}), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 2**12
    assert read_parquet(path, lambda name: True).num_rows == 1000
    with pytest.raises(UserError, match="has more than 999 rows and is not read"):
        read_parquet(path, lambda name: True, most_rows=999)
    monkeypatch.setattr(parquet, "MAX_SOURCE_BYTES", 2**24)
    with pytest.raises(UserError, match="unpacks to more than 16 MiB and is not read"):
        read_parquet(path, lambda name: True)


def test_no_more_episodes_of_lerobot_than_can_be_named(
    bring: Bring, lerobot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmil.data.formats.lerobot.MAX_EPISODES", 2)
    assert "file-000.parquet has more than 2 rows" in refused(bring, lerobot)
    monkeypatch.setattr("vmil.data.formats.lerobot.MAX_EPISODES", 5)
    shutil.copytree(lerobot, tmp_path / "set")
    episodes = tmp_path / "set/meta/episodes/chunk-000/file-000.parquet"
    shutil.copy(episodes, episodes.with_name("file-001.parquet"))
    assert "holds more than 5 episodes" in refused(bring, tmp_path / "set")


def test_an_npz_too_large_to_be_read_is_told_what_to_do(
    bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_npz(tmp_path / "npz")
    monkeypatch.setattr("vmil.data.formats.dreamer.MAX_SOURCE_BYTES", 2**17)
    said = "unpacks to more than 0 MiB, more than is read of one episode: lower the resolution of its images first"
    assert said in refused(bring, source)


def test_a_missing_library_is_named_with_its_extra(
    bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_robomimic(tmp_path / "demo.hdf5")

    def absent(module: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(hdf5.importlib, "import_module", absent)
    assert "needs h5py, which is not installed: pip install 'vmil[formats]' brings it" in refused(bring, path)


def test_demonstrations_that_are_ours_already(bring: Bring, tmp_path: Path) -> None:
    recordings, _ = bring(make_npz(tmp_path / "npz"))
    ours = recordings[0].path.parent
    assert f"demos.path={ours}" in refused(bring, ours)


# ---- damage by chance


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """A sound source of each format, and the file of it that is damaged."""
    root = tmp_path_factory.mktemp("sources")
    with pytest.MonkeyPatch.context() as patch:
        name = make_minari(root / "minari", patch)
    npz, rows = make_npz(root / "npz"), make_lerobot(root / "rows")
    return {
        "npz": (npz, sorted(npz.iterdir())[1]),
        "robomimic": (robomimic := make_robomimic(root / "demo.hdf5"), robomimic),
        "minari": (root / "minari" / name, root / "minari" / name / "data" / "main_data.hdf5"),
        "lerobot": (rows, rows / "data/chunk-000/file-000.parquet"),
    }


@pytest.mark.parametrize("format", ["npz", "robomimic", "minari", "lerobot"])
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6), keep=st.floats(0.1, 1.4))
def test_no_damage_ends_in_a_traceback(
    format: Any, places: list[tuple[float, int]], keep: float, sources: dict[str, tuple[Path, Path]]
) -> None:
    source, path = sources[format]
    sound = path.read_bytes()
    damaged = bytearray(sound)
    for place, value in places:
        damaged[int(place * len(damaged))] = value
    try:
        path.write_bytes(damaged[: int(keep * len(damaged))])
        kind, where = detect(str(source), format)
        list(read_episodes(kind, where, ReadOptions(image_size=64)))
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017 (damage may miss what is read)
    finally:
        path.write_bytes(sound)


def test_the_fixtures_are_sound(sources: dict[str, tuple[Path, Path]]) -> None:
    for format, (source, _) in sources.items():
        kind, where = detect(str(source), "auto")
        assert kind == format
        episodes = list(read_episodes(kind, where, ReadOptions(image_size=64)))
        assert [len(episode.action) for episode in episodes] == [STEPS] * 3
        assert np.array_equal(proprio(1, 2), [[1, 0], [1, 1]])
