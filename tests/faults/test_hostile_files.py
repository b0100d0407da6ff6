"""Demonstrations, checkpoints and configurations that were damaged, or made to do harm: one sentence, and no code runs.

A thousand mutations, drawn by seed: bytes flipped, cut out, doubled, cut off, replaced by others' favourite values.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faulty import Ground
from small_runs import SMALL, write_demos

from vmil import cli
from vmil.algorithms import make_learner
from vmil.config.load import load_config, load_saved_config, save_config
from vmil.data import tensor_files
from vmil.data.datamodule import VMILDataModule
from vmil.data.recording import read_recording
from vmil.data.tensor_files import read_tensors, write_tensors
from vmil.errors import UserError
from vmil.training.restore import read_checkpoint, try_on

pytestmark = pytest.mark.filterwarnings("ignore")
DEMOS, CHECKPOINTS, CONFIGS = 600, 200, 200
FAVOURITES = [
    b"\x00" * 8, b"\xff" * 8, b"%s%n", b"../../../../etc/passwd", b"!!python/object/apply:os.system [id]", b"nan",
]  # fmt: skip
FORBIDDEN = {
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "socket.connect",
}  # fmt: skip


@pytest.fixture
def nothing_runs() -> Iterator[list[str]]:
    """What was begun that no reading of a file has any business with, by the interpreter's own account."""
    seen: list[str] = []
    active = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if active[0] and event in FORBIDDEN:
            seen.append(f"{event}{arguments[:2]}")

    sys.addaudithook(hook)  # which cannot be taken away again
    yield seen
    active[0] = False
    assert not seen


def mutate(content: bytes, draw: random.Random) -> bytes:
    """One to four mutations of `content`, somewhere."""
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(max(1, len(content)))
        size = draw.choice([1, 2, 8, 64, 512])
        kind = draw.randrange(5)
        if kind == 0:
            flipped = bytes([content[at] ^ (1 << draw.randrange(8))]) if content else b""
            content = content[:at] + flipped + content[at + 1 :]
        elif kind == 1:
            content = content[:at] + content[at + size :]
        elif kind == 2:
            content = content[:at] + content[at : at + size] + content[at:]
        elif kind == 3:
            content = content[:at]
        else:
            favourite = draw.choice(FAVOURITES)
            content = content[:at] + favourite + content[at + len(favourite) :]
    return content


def is_one_sentence(error: UserError) -> bool:
    """True, or the test fails."""
    assert str(error)
    assert "\n" not in str(error)
    return True


def outcomes(read: Callable[[bytes], object], original: bytes, count: int, name: str) -> int:
    """How many of `count` mutants were refused in one sentence; the others must have been read, not have crashed."""
    refused = 0
    for number in range(count):
        mutant = mutate(original, random.Random(f"{name} {number}"))
        try:
            read(mutant)
        except UserError as error:
            refused += is_one_sentence(error)
        except Exception as error:
            raise AssertionError(f"{name} {number} ended in {error!r}") from error
    return refused


def test_mutated_demonstrations(tmp_path: Path, nothing_runs: list[str]) -> None:
    write_demos(tmp_path / "demos")
    path = tmp_path / "demos" / "demo_00.npz"
    original = path.read_bytes()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_recording(path)

    # an archive has room for harmless bytes, between its members and in their dates
    assert outcomes(read, original, DEMOS, "demo") > 0.9 * DEMOS


def test_mutated_configurations(tmp_path: Path, nothing_runs: list[str]) -> None:
    path = tmp_path / "run" / "config.yaml"
    path.parent.mkdir()
    save_config(load_config(["env=counting", "compute=debug"]), path)
    original = path.read_bytes()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        load_saved_config(path)

    assert outcomes(read, original, CONFIGS, "config") > 0.5 * CONFIGS  # one digit for another is a configuration


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    ground = Ground(tmp_path_factory.mktemp("hostile"))
    assert ground.train("run").code == 0
    return ground.root / "run"


@pytest.fixture(scope="module")
def parts(run: Path) -> Iterator[tuple[Any, VMILDataModule]]:
    """Its learner and its data, set up, as a resume has them when it opens the checkpoint."""
    config = load_saved_config(run / "config.yaml")
    data = VMILDataModule(config, replay_dir=run / "checkpoints" / "replay")
    data.setup()
    yield make_learner(config, 1, 0), data
    data.close()


def test_mutated_checkpoints(run: Path, parts: Any, tmp_path: Path, nothing_runs: list[str]) -> None:
    """Every byte of a member is under its checksum, so what is read at all is what was written."""
    path, original = tmp_path / "last.ckpt", (run / "checkpoints" / "last.ckpt").read_bytes()
    sound = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    def read(content: bytes) -> None:
        path.unlink(missing_ok=True)  # the last one's tensors are still mapped
        path.write_bytes(content)
        weights = read_checkpoint(path, parts[0])["state_dict"]
        assert all(torch.equal(weights[name], sound[name]) for name in sound)

    assert outcomes(read, original, CHECKPOINTS, "checkpoint") > 0.5 * CHECKPOINTS


def changed(content: Any, draw: random.Random, depth: int = 0) -> Any:
    """A checkpoint's content with something in it replaced: a sound archive that says wrong things."""
    nonsense = [None, -1, 10**12, "../../etc/passwd", {}, [], 0.5, torch.zeros(3), float("nan")]
    if isinstance(content, dict) and content and (depth < 2 or draw.random() < 0.7):
        key = draw.choice(sorted(content, key=str))
        if draw.random() < 0.2:
            return {name: value for name, value in content.items() if name != key}
        return {**content, key: changed(content[key], draw, depth + 1)}
    if isinstance(content, list) and content and draw.random() < 0.7:
        at = draw.randrange(len(content))
        return [*content[:at], changed(content[at], draw, depth + 1), *content[at + 1 :]]
    return draw.choice(nonsense)


def test_checkpoints_that_say_wrong_things(run: Path, parts: Any, tmp_path: Path, nothing_runs: list[str]) -> None:
    path, sound = tmp_path / "last.ckpt", torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    before, refused = sorted(tmp_path.parent.rglob("*")), 0
    for number in range(40):
        draw = random.Random(f"content {number}")
        section = draw.choice(["VMILDataModule", "state_dict", "optimizer_states", "loops"])
        path.unlink(missing_ok=True)
        torch.save({**sound, section: changed(sound[section], draw)}, path)
        try:
            try_on(path, read_checkpoint(path, parts[0]), *parts)
        except UserError as error:
            is_one_sentence(error)
            refused += 1
    assert refused >= 10  # weights that are gone or of another shape, at least
    for section in ("VMILDataModule", "state_dict", "optimizer_states"):
        path.unlink(missing_ok=True)
        torch.save({name: value for name, value in sound.items() if name != section}, path)
        with pytest.raises(UserError):
            try_on(path, read_checkpoint(path, parts[0]), *parts)
    path.unlink()
    assert sorted(tmp_path.parent.rglob("*")) == before, "something was written on the way"


class Harm:
    """What a hostile pickle would do when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (subprocess.call, (["touch", "/tmp/vmil-was-here"],))


def test_pickles_are_refused_wherever_they_hide(run: Path, parts: Any, tmp_path: Path, nothing_runs: list[str]) -> None:
    checkpoint, plain = tmp_path / "last.ckpt", tmp_path / "plain.ckpt"
    torch.save({"state_dict": Harm()}, checkpoint)
    plain.write_bytes(pickle.dumps({"state_dict": Harm()}))
    for path in (checkpoint, plain):
        with pytest.raises(UserError, match="is damaged, or not a checkpoint of vmil"):
            read_checkpoint(path, parts[0])
    demo = tmp_path / "demo_00.npz"
    np.savez(demo, physics=np.array([Harm()], dtype=object), action=np.zeros((1, 1), np.float32), meta=np.array("{}"))
    with pytest.raises(UserError):
        read_recording(demo)


def test_archives_and_texts_that_unfold_to_any_size_are_not_unfolded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: Any
) -> None:
    demo = tmp_path / "demo_00.npz"
    with zipfile.ZipFile(demo, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("physics.npy", "w") as member:
        for _ in range(260):
            member.write(bytes(2**20))
    with pytest.raises(UserError, match="unpacks to more than 256 MiB"):
        read_recording(demo)

    monkeypatch.setattr(tensor_files, "MAX_BYTES", 2**20)
    episode = tmp_path / "episode.safetensors.gz"
    episode.write_bytes(gzip.compress(bytes(2**21)))
    with pytest.raises(UserError, match="is corrupt or truncated"):
        read_tensors(episode)
    with pytest.raises(UserError, match="would hold 2 MiB, an episode 1 MiB at the most"):
        write_tensors(episode, {"image": torch.zeros(2**21, dtype=torch.uint8)})

    checkpoint = tmp_path / "last.ckpt"
    with zipfile.ZipFile(checkpoint, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(UserError, match="is damaged, or not a checkpoint of vmil"):
        read_checkpoint(checkpoint, parts[0])

    config = tmp_path / "config.yaml"
    bomb = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
    for text, reason in (
        (f"a0: &a0 [1]\n{bomb}\n", "aliases are not allowed"),
        ("seed: " + "[" * 500, "cannot be read"),
        ("# " + "x" * 300_000, "larger than 256 KiB"),
    ):
        config.write_text(text)
        with pytest.raises(UserError, match=reason):
            load_saved_config(config)


def test_no_member_of_an_archive_leaves_it(tmp_path: Path) -> None:
    """Nothing is ever unpacked to a path; a member with such a name is no array that anyone asks for."""
    write_demos(tmp_path / "demos")
    demo, escaped = tmp_path / "demos" / "demo_00.npz", tmp_path / "escaped.npy"
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    with zipfile.ZipFile(demo, "a") as archive:
        archive.writestr("../escaped.npy", content.getvalue())
    assert read_recording(demo).action.shape == (12, 1)
    assert not escaped.exists()


def test_at_the_command_line_it_is_exit_code_2(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_demos(tmp_path / "demos")
    (tmp_path / "demos" / "demo_00.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    spoilt = tmp_path / "spoilt"
    (spoilt / "checkpoints").mkdir(parents=True)
    config = (run / "config.yaml").read_text()
    (spoilt / "config.yaml").write_text(config)
    (spoilt / "checkpoints" / "last.ckpt").write_bytes(b"PK\x05\x06" + bytes(18))
    (tmp_path / "worse").mkdir()
    (tmp_path / "worse" / "config.yaml").write_text(json.dumps({"seed": ["!!python/name:os.system"]}))
    settings = [*SMALL, f"demos.path={tmp_path}/demos", f"run.root={tmp_path}/runs", "tracking.kind=none"]
    for arguments in (["train", *settings], ["evaluate", f"run={spoilt}"], ["resume", f"run={tmp_path}/worse"]):
        assert cli.main(arguments) == 2
        said = capsys.readouterr().err
        assert [line for line in said.splitlines() if line.startswith(("vmil: ", "Traceback"))] == [
            line for line in said.splitlines() if line.startswith("vmil: ")
        ]
        assert said.count("vmil: ") == 1
