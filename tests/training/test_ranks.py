"""Two ranks learn what one would from both batches; each has its own seed, replay and demonstrations.

The comparison is exact where a loss is a mean over its batch and nothing is drawn per rank. That is why it is of the
ELBO without free nats (their clip is of each rank's mean KL, not of the joint one), with the joint batch's noise. Per
rank are, besides: the range by which returns are divided (the ranks' mean after each update), the pairs that the
discriminator's penalty interpolates between, and every random number.
"""

from __future__ import annotations

import multiprocessing
from types import SimpleNamespace

import pytest
import torch
from two_ranks import be_one_of_two, model_gradients

from vmil.config.load import load_config
from vmil.data.ranks import Rank, anyone, average_, gathered, local_index, rank_of, rank_seed

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["two_ranks"])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[SimpleNamespace]:
    """What two connected processes told each other."""
    out = tmp_path_factory.mktemp("ranks")
    ranks = [FORKS.Process(target=be_one_of_two, args=(index, out / "meeting", out)) for index in range(2)]
    for rank in ranks:
        rank.start()
    try:
        for rank in ranks:
            rank.join(300)
    finally:
        for rank in ranks:  # one that waits for another, which has failed, would wait for good
            rank.kill()
            rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0]
    return [SimpleNamespace(**torch.load(out / f"rank_{index}.pt", weights_only=True)) for index in range(2)]


def test_gradients_are_those_of_the_joint_batch(both: list[SimpleNamespace]) -> None:
    joint, (first, second) = model_gradients(slice(None)), (rank.gradients for rank in both)
    assert joint.keys() == first.keys() == second.keys()
    halves = model_gradients(slice(0, 2)), model_gradients(slice(2, 4))
    assert not torch.allclose(halves[0]["loss"], halves[1]["loss"], rtol=1e-4)  # or it could not be told from a mean
    for name, gradient in joint.items():
        assert torch.equal(first[name], second[name]), name
        scale = float(gradient.abs().max())
        torch.testing.assert_close(first[name], gradient, rtol=1e-4, atol=1e-5 * scale, msg=name)


def test_what_ranks_tell_each_other(both: list[SimpleNamespace]) -> None:
    for rank in both:
        assert [weight.tolist() for weight in rank.average] == [[[0.5] * 3] * 2, 5.0]
        assert rank.gathered == [{"rank": 0}, {"rank": 1}]
        assert rank.anyone == [True, False]


def test_alone_nothing_is_sent() -> None:
    weight = torch.tensor(3.0)
    average_([weight])
    assert weight == 3.0
    assert gathered("mine") == ["mine"]
    assert anyone(True, torch.device("cpu"))
    assert not anyone(False, torch.device("cpu"))


@pytest.mark.parametrize(
    ("environment", "rank", "local"),
    [
        ({}, Rank(0, 4), 0),
        ({"LOCAL_RANK": "1"}, Rank(1, 4), 1),
        ({"NODE_RANK": "1", "LOCAL_RANK": "1"}, Rank(3, 4), 1),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "2", "LOCAL_RANK": "0"}, Rank(2, 4), 0),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}, Rank(3, 4), 1),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash", "LOCAL_RANK": "1"}, Rank(1, 4), 1),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "interactive", "LOCAL_RANK": "1"}, Rank(1, 4), 1),
        (
            {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "LOCAL_RANK": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"},
            Rank(3, 4),
            1,
        ),
    ],
)
def test_which_rank_this_is(environment: dict[str, str], rank: Rank, local: int) -> None:
    config = load_config(["compute.devices=2", "compute.nodes=2", "training.frames_per_epoch=4000"])
    assert rank_of(config, environment) == rank
    assert local_index(config, environment) == local
    assert rank_of(load_config(), environment) == Rank(0, 1)  # whoever started it
    assert local_index(load_config(), environment) == 0


def test_the_first_rank_has_the_run_s_seed_and_no_two_the_same() -> None:
    seeds = [rank_seed(7, Rank(index, 8)) for index in range(8)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 8
