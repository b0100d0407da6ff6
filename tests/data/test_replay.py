"""Replay with counting episodes: what can be drawn, who is evicted, and what a checkpoint brings back."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from counting_run import digests
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensordict import TensorDict

from vmil.data import replay, tensor_files
from vmil.data.replay import Replay
from vmil.data.transition import stack_windows
from vmil.errors import UserError


def episode(index: int, steps: int) -> TensorDict:
    """Every entry of step t says (index, t)."""
    t = torch.arange(steps)
    return TensorDict(
        {
            "image": (t % 256)
            .to(torch.uint8)
            .view(-1, 1, 1, 1)
            .expand(-1, 4, 4, 3)
            .clone()
            .index_fill_(3, torch.tensor([0]), index % 256),
            "action": torch.stack([torch.full((steps,), index / 1000), t / 1000], -1),
            "reward": t.float(),
            "episode": torch.full((steps,), index),
            "t": t,
            "is_first": t == 0,
        },
        [steps],
    )


def filled(lengths: list[int], capacity: int = 100, seed: int = 0, **kwargs: Any) -> Replay:
    buffer = Replay(capacity, 2, seed, **kwargs)
    for index, steps in enumerate(lengths):
        buffer.extend(episode(index, steps))
    return buffer


def check(sample: TensorDict) -> None:
    """Every slice is one episode's, in order, and its pixels and actions are those of its steps."""
    assert (sample["episode"] == sample["episode"][:, :1]).all()
    assert (sample["t"].diff(dim=1) == 1).all()
    assert torch.equal(sample["is_first"], sample["t"] == 0)
    assert torch.equal(sample["image"][..., 0, 0, 0].long(), sample["episode"])
    assert torch.equal(sample["image"][..., 0, 0, 1].long(), sample["t"])
    assert torch.allclose(sample["action"] * 1000, torch.stack([sample["episode"], sample["t"]], -1).float(), atol=1e-3)
    assert torch.equal(sample["reward"], sample["t"].float())


def test_uniform_over_first_steps_and_every_step_is_reachable() -> None:
    buffer = filled([12, 4, 7])  # slices of 5: 8, 0 and 3 of them
    seen: Counter[tuple[int, int]] = Counter()
    reached = set()
    for _ in range(110):
        sample = buffer.sample(50, 5)
        check(sample)
        seen.update((int(e), int(t)) for e, t in zip(sample["episode"][:, 0], sample["t"][:, 0], strict=True))
        reached.update((int(e), int(t)) for e, t in zip(sample["episode"].ravel(), sample["t"].ravel(), strict=True))
    assert set(seen) == {(0, t) for t in range(8)} | {(2, t) for t in range(3)}
    assert reached == {(0, t) for t in range(12)} | {(2, t) for t in range(7)}
    assert all(400 < count < 600 for count in seen.values()), seen  # 500 each, standard deviation 21


def test_no_slice_when_every_episode_is_too_short() -> None:
    with pytest.raises(ValueError, match="none of 2 episodes has 6 steps; the longest has 5"):
        filled([5, 3]).sample(1, 6)


@settings(max_examples=30, deadline=None)
@example([5, 5, 5, 5, 12, 9], 20)  # the last goes to the front while one of the first still lies at the back
@given(st.lists(st.integers(3, 17), min_size=1, max_size=25), st.integers(20, 60))
def test_whole_episodes_leave_first_in_first_out(lengths: list[int], capacity: int) -> None:
    buffer = filled(lengths, capacity)
    held = [span.episode for span in buffer.spans]
    assert held == list(range(len(lengths) - len(held), len(lengths)))  # the newest, in order, none missing
    assert [span.length for span in buffer.spans] == lengths[-len(held) :]
    assert buffer.steps <= capacity
    assert buffer.frames == 2 * buffer.steps
    occupied = [step for span in buffer.spans for step in range(span.start, span.start + span.length)]
    assert len(set(occupied)) == len(occupied)
    assert max(occupied) < capacity
    check(buffer.sample(40, 3))


def test_full_to_the_last_step_then_round_again() -> None:
    buffer = filled([10] * 10, capacity=100)
    assert buffer.episodes == 10
    buffer.extend(episode(10, 10))
    assert [span.episode for span in buffer.spans] == list(range(1, 11))
    assert buffer.spans[-1].start == 0
    assert set(buffer.sample(400, 10)["episode"].unique().tolist()) == set(range(1, 11))


def test_an_episode_longer_than_the_replay_is_refused() -> None:
    with pytest.raises(ValueError, match="101 steps does not fit into a replay of 100"):
        filled([101])


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_poisoned_actions_are_refused(poison: float) -> None:
    buffer, bad = filled([10]), episode(7, 10)
    bad["action"][9, 1] = poison
    with pytest.raises(ValueError, match="episode 7 holds an action that is NaN or infinite"):
        buffer.extend(bad)
    assert buffer.episodes == 1


def test_draws_are_its_own() -> None:
    """Neither torch's global generator nor the order of the two sources changes what is drawn."""
    first, second = filled([30, 30], seed=3), filled([30, 30], seed=3)
    torch.manual_seed(1)
    drawn = first.sample(8, 5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(drawn["t"], second.sample(8, 5)["t"])
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(filled([30, 30], seed=4).sample(8, 5)["t"], drawn["t"])


def test_sample_is_time_major_in_memory() -> None:
    sample = filled([30]).sample(4, 6)
    assert sample.shape == (4, 6)
    assert sample["image"].transpose(0, 1).is_contiguous()


def test_memory_is_taken_only_as_episodes_come_in() -> None:
    buffer = filled([10], capacity=10_000)
    per_step = 4 * 4 * 3 + 2 * 4 + 4 + 8 + 8 + 1 + 1
    assert buffer.memory_bytes() == 10 * per_step


def test_on_disk_it_is_the_same(tmp_path: Path) -> None:
    in_memory, on_disk = filled([10] * 12), filled([10] * 12, scratch=tmp_path / "scratch")
    assert (tmp_path / "scratch").is_dir()
    assert digests(in_memory) == digests(on_disk)
    assert (in_memory.sample(20, 5) == on_disk.sample(20, 5)).all()
    on_disk.close()
    assert not (tmp_path / "scratch").exists()


# ---- checkpoints


def reloaded(buffer: Replay, directory: Path, capacity: int = 100) -> Replay:
    """What another process makes of the checkpoint, through a weights-only file."""
    path = directory / "manifest.pt"
    torch.save(buffer.state_dict(), path)
    other = Replay(capacity, 2, seed=99)
    other.load(directory, torch.load(path, weights_only=True))
    return other


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(3, 17), min_size=1, max_size=15), st.integers(0, 5))
def test_loaded_equals_saved_and_stays_equal(tmp_path_factory: Any, lengths: list[int], more: int) -> None:
    directory = tmp_path_factory.mktemp("replay")
    buffer = filled(lengths, 50)
    buffer.sample(5, 3)
    buffer.save(directory)
    other = reloaded(buffer, directory, 50)
    for step in range(more + 1):
        assert digests(other) == digests(buffer)
        assert other.spans == buffer.spans
        assert (other.sample(10, 3) == buffer.sample(10, 3)).all()
        for each in (buffer, other):
            each.extend(episode(50 + step, 11))


def test_only_new_episodes_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = replay.write_tensors

    def spy(path: Path, *args: Any) -> None:
        written.append(path.name.split(".")[0])
        write(path, *args)

    monkeypatch.setattr(replay, "write_tensors", spy)
    buffer = filled([10, 10])
    buffer.save(tmp_path)
    buffer.extend(episode(2, 10))
    buffer.save(tmp_path)
    assert written == ["episode_000000", "episode_000001", "episode_000002"]
    other = reloaded(buffer, tmp_path)
    other.extend(episode(3, 10))
    other.save(tmp_path)
    assert written[3:] == ["episode_000003"]


def test_killed_between_the_files_and_the_checkpoint(tmp_path: Path) -> None:
    """Whatever was saved later, even twice, or half, the manifest that was written still loads."""
    buffer = filled([20] * 5)
    buffer.save(tmp_path)
    manifest, digest = buffer.state_dict(), digests(buffer)
    for index in (5, 6):  # evict 0 and 1
        buffer.extend(episode(index, 20))
        buffer.save(tmp_path)
    (tmp_path / ".episode_000007.safetensors.gz.1.part").write_bytes(b"half")
    resumed = Replay(100, 2, 0)
    resumed.load(tmp_path, manifest)
    assert digests(resumed) == digest
    different = episode(5, 20)
    different["reward"] += 1  # the run goes another way now: the file left over must not survive
    resumed.extend(different)
    resumed.save(tmp_path)
    assert digests(reloaded(resumed, tmp_path)) == digests(resumed)


def test_files_of_evicted_episodes_go_in_the_end(tmp_path: Path) -> None:
    buffer = filled([20] * 5)
    for index in range(5, 5 + replay.KEPT_CHECKPOINTS + 2):
        buffer.extend(episode(index, 20))
        buffer.save(tmp_path)
        buffer.commit(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 5 + replay.KEPT_CHECKPOINTS - 1
    assert names[-1].startswith(f"episode_{index:06d}")


def test_checkpoints_that_fail_however_often_leave_the_last_good_one_its_episodes(tmp_path: Path) -> None:
    buffer = filled([20] * 5)
    buffer.save(tmp_path)
    manifest, digest = buffer.state_dict(), digests(buffer)
    buffer.commit(tmp_path)
    failures = 2 * replay.KEPT_CHECKPOINTS
    for index in range(5, 5 + failures):
        buffer.extend(episode(index, 20))
        buffer.save(tmp_path)
    last_good = Replay(100, 2, 0)
    last_good.load(tmp_path, manifest)
    assert digests(last_good) == digest
    buffer.commit(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5 + 5  # what no checkpoint has named is gone
    assert digests(reloaded(buffer, tmp_path)) == digests(buffer)


def test_a_resumed_run_keeps_the_episodes_of_the_checkpoint_before_the_one_that_it_goes_on_from(tmp_path: Path) -> None:
    buffer = filled([20] * 5)
    buffer.save(tmp_path)
    previous, digest = buffer.state_dict(), digests(buffer)
    buffer.commit(tmp_path)
    for index in (5, 6):  # evict 0 and 1, which only the checkpoint before names
        buffer.extend(episode(index, 20))
    buffer.save(tmp_path)
    buffer.commit(tmp_path)
    resumed = reloaded(buffer, tmp_path)

    def checkpoint(index: int) -> None:
        resumed.extend(episode(index, 20))
        resumed.save(tmp_path)
        resumed.commit(tmp_path)

    last = 7 + replay.KEPT_CHECKPOINTS - 2  # two of those kept were there before
    for index in range(7, last):
        checkpoint(index)
    before = Replay(100, 2, 0)
    before.load(tmp_path, previous)
    assert digests(before) == digest
    checkpoint(last)
    assert not {"episode_000000", "episode_000001"} & {path.name.partition(".")[0] for path in tmp_path.iterdir()}


def test_a_larger_replay_takes_everything_over(tmp_path: Path) -> None:
    buffer = filled([20] * 7)
    buffer.save(tmp_path)
    other = reloaded(buffer, tmp_path, capacity=200)
    assert [span.episode for span in other.spans] == [span.episode for span in buffer.spans]
    assert digests(other) == digests(buffer)
    smaller = reloaded(buffer, tmp_path, capacity=40)
    assert [span.episode for span in smaller.spans] == [5, 6]


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "another":
        tensor_files.write_tensors(path, {"image": torch.zeros(10, dtype=torch.uint8)})
    else:
        raise AssertionError(how)


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "another"])
def test_a_damaged_episode_is_named_in_one_sentence(tmp_path: Path, how: str) -> None:
    buffer = filled([10, 10, 10])
    buffer.save(tmp_path)
    path = tmp_path / "episode_000001.safetensors.gz"
    spoil(path, how)
    with pytest.raises(UserError) as error:
        reloaded(buffer, tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    buffer = filled([10])
    buffer.save(tmp_path)
    path = tmp_path / "episode_000000.safetensors.gz"
    content, digest, chance = path.read_bytes(), digests(buffer), random.Random(0)
    for _ in range(80):
        flipped = bytearray(content)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        try:
            same = digests(reloaded(buffer, tmp_path)) == digest
        except UserError:
            continue
        assert same  # a bit that carries no content, such as the archive's time stamp


def test_openings_begin_where_episodes_begin() -> None:
    buffer = filled([20, 20, 20])
    assert {window.start % 20 for window in buffer.windows(400, 4, openings=1.0)} == {0}
    some = [window.start % 20 for window in buffer.windows(4000, 4, openings=0.25)]
    assert 0.25 < some.count(0) / 4000 < 0.25 + 0.75 / 17 + 0.03  # a quarter, and those drawn there anyway
    assert set(some) == set(range(17))
    assert {window.before for window in buffer.windows(200, 4, openings=1.0, lead=2)} == {2}


def drawn(buffer: Replay, length: int, lead: int, count: int = 3000) -> Counter[tuple[int, tuple[int, ...]]]:
    """How often each (episode, its steps) was drawn, padded."""
    stacked = stack_windows(buffer.windows(count, length, lead=lead, ends=True), length, ["episode", "t"])
    assert (stacked["episode"] == stacked["episode"][:1]).all()
    return Counter(zip(stacked["episode"][0].tolist(), map(tuple, stacked["t"].T.tolist()), strict=True))


def test_padded_slices_cover_every_transition_of_an_episode_equally() -> None:
    """Stacks of three: the first frame stands for those before it, and what follows a time limit is not known."""
    buffer = filled([5, 2])
    seen = drawn(buffer, length=4, lead=2)
    assert set(seen) == {
        (0, (0, 0, 0, 1)), (0, (0, 0, 1, 2)), (0, (0, 1, 2, 3)), (0, (1, 2, 3, 4)), (1, (0, 0, 0, 1)),
    }  # fmt: skip
    assert all(500 < count < 700 for count in seen.values()), seen  # 600 each, standard deviation 22


def test_the_action_that_terminated_an_episode_is_a_transition_too() -> None:
    buffer = Replay(100, 2, 0)
    for index, steps in enumerate((3, 1)):
        ended = torch.arange(steps) == steps - 1
        buffer.extend(episode(index, steps).set("terminated", ended))
    assert set(drawn(buffer, length=4, lead=2)) == {
        (0, (0, 0, 0, 1)), (0, (0, 0, 1, 2)), (0, (0, 1, 2, 2)), (1, (0, 0, 0, 0)),
    }  # fmt: skip
    stacked = stack_windows(buffer.windows(200, 4, lead=2, ends=True), 4, ["t", "terminated", "episode"])
    last = torch.where(stacked["episode"][-2] == 0, 2, 0)
    assert torch.equal(stacked["terminated"][-2], stacked["t"][-2] == last)
    assert {t for _, t in drawn(buffer, 3, 0)} == {(0, 1, 2), (1, 2, 2)}  # sequences without a stack


def test_padding_draws_nothing_else_where_there_is_none() -> None:
    plain, padded = filled([30, 30], seed=3), filled([30, 30], seed=3)
    starts = [window[1:] for window in plain.windows(50, 4)]
    assert starts == [window[1:] for window in padded.windows(50, 4, ends=True)]
    assert {window[2:] for window in padded.windows(50, 4)} == {(0, 0)}


def test_a_checkpoint_from_before_terminations_were_kept_still_loads(tmp_path: Path) -> None:
    old, manifest = filled([6]), filled([6]).state_dict()
    content = {key: value for key, value in old._read(old.spans[0]).items() if key != "terminated"}
    digest = tensor_files.tensor_digest(content)
    tensor_files.write_tensors(tmp_path / "episode_000000.safetensors.gz", content)
    span = {"episode": 0, "start": 0, "length": 6, "digest": digest}
    fresh = Replay(100, 2, 0)
    fresh.load(tmp_path, manifest | {"shelves": [span]})
    assert not fresh.sample(4, 3)["terminated"].any()
    assert fresh.state_dict()["shelves"][0]["digest"] == digest
