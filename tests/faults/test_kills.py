"""Killed at any moment, a run goes on as if nothing had happened: on a CPU to the last bit."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from faulty import PLACES, Ended, Fault, Ground, kill
from small_runs import FRAMES, ROUND, assert_same_run

from vmil.data.tensor_files import read_tensors, tensor_digest
from vmil.tracking.curves import read_points
from vmil.tracking.record import read_record

pytestmark = pytest.mark.filterwarnings("ignore")
KILLS, QUICK = 20, (0, 2)  # of the latter one while it collects, one while it saves


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A run that nothing stops, and how many events each place has."""
    ground = Ground(tmp_path_factory.mktemp("whole"))
    ended = ground.train("whole")
    assert ended.code == 0, ended.said
    assert set(PLACES) <= set(ended.events)
    return ground.root / "whole", ended.events


def moment(number: int, events: dict[str, int]) -> Fault:
    """The number-th random moment: the places take turns, the event is drawn."""
    place = PLACES[number % len(PLACES)]
    return Fault(place, random.Random(f"kill {number}").randint(1, events[place]), kill)


def replayed(run: Path) -> dict[int, str]:
    """Digest of each episode that the last checkpoint lists, read from its file and worked out anew."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["VMILDataModule"]
    files = {
        entry["episode"]: run / "checkpoints" / "replay" / f"episode_{entry['episode']:06d}.safetensors.gz"
        for entry in state["replay"]["shelves"]
    }
    return {episode: tensor_digest(read_tensors(path)) for episode, path in files.items()}


def go_on(ground: Ground, name: str) -> Ended:
    """`make resume`; what was killed before its first checkpoint says so, and is started again."""
    ended = ground.resume(name)
    if ended.code == 2:
        assert "was stopped before its first checkpoint: start again with `make train`" in ended.said
        ended = ground.train(name)
    return ended


@pytest.mark.parametrize(
    "number",
    [pytest.param(number, marks=() if number in QUICK else pytest.mark.faults) for number in range(KILLS)],
)
def test_killed_at_a_random_moment_it_goes_on_to_the_same_end(
    whole: tuple[Path, dict[str, int]], tmp_path: Path, number: int
) -> None:
    ground, fault = Ground(tmp_path), moment(number, whole[1])
    killed = ground.train("run", fault=fault)
    assert killed.code == -9, (fault, killed.said)
    ended = go_on(ground, "run")
    assert ended.code == 0, (fault, ended.said)
    run = ground.root / "run"
    assert_same_run(run, whole[0])
    assert replayed(run) == replayed(whole[0])
    assert list(replayed(run)) == list(range(FRAMES // ROUND))
    rows = Counter((point.frames, point.name) for point in read_points(run))
    assert set(rows.values()) == {1}, "a moment was reported twice"
    assert read_record(run)["status"] == "FINISHED"
    assert not ground.leftovers(ended)


@pytest.mark.faults
def test_killed_again_and_again_it_still_gets_there(whole: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    """Each life is a little longer than the last: every round of it starts from what the one before has saved."""
    ground = Ground(tmp_path)
    assert ground.train("run", fault=Fault("update", 7, kill)).code == -9
    lives = [ground.resume("run", fault=Fault("update", count, kill)).code for count in (5, 11, 17)]
    assert lives == [-9] * 3
    assert ground.resume("run").code == 0
    assert_same_run(ground.root / "run", whole[0])


def test_what_killed_processes_leave_in_the_replay_s_directory_goes_in_time(tmp_path: Path) -> None:
    """Else each kill would cost its disk for good."""
    ground = Ground(tmp_path)
    often = ("training.replay_frames=24", f"training.checkpoint_every_frames={ROUND}", f"training.frames={3 * FRAMES}")
    assert ground.train("run", *often, fault=Fault("update", 3 * 2 + 3 * 3 * 3, kill)).code == -9
    replay = ground.root / "run" / "checkpoints" / "replay"
    stray = replay / "episode_000777.safetensors.gz"
    stray.write_bytes(b"of a life that never came to a checkpoint")
    ended = ground.resume("run")
    assert ended.code == 0, ended.said
    assert not stray.exists()
    kept = sorted(int(path.name[8:14]) for path in replay.iterdir())
    assert kept == list(range(12 - len(kept), 12))


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(
    whole: tuple[Path, dict[str, int]], tmp_path: Path
) -> None:
    ground = Ground(tmp_path)
    assert ground.train("same").code == 0
    assert_same_run(ground.root / "same", whole[0])
    assert ground.train("other", "seed=1").code == 0
    with pytest.raises(AssertionError):
        assert_same_run(ground.root / "other", whole[0])
