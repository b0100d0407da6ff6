"""What a learner does not read is refused, and what its definition fixes stands against any size preset."""

from __future__ import annotations

import pytest

from vmil.config.keys import leaves, sections
from vmil.config.learners import LEARNERS, discriminator_settings, unread
from vmil.config.load import load_config, load_saved_config, save_config
from vmil.config.schema import Config
from vmil.errors import UserError


def test_every_section_is_everyone_s_or_some_learner_s() -> None:
    assert {name for traits in LEARNERS.values() for name in traits.sections} <= sections(Config)
    assert set().union(*(leaves(Config).keys() - unread(learner) for learner in LEARNERS)) == set(leaves(Config))
    assert {"drq.lr", "dac.lr", "bc.lr", "pixels.shift"} <= unread("vmil")
    assert {"world_model.deter", "collector.workers"} <= unread("bc")


def test_a_learner_s_discriminator_is_set_up_in_a_section_that_it_reads() -> None:
    for name, traits in LEARNERS.items():
        assert traits.discriminator is None or traits.discriminator in traits.sections
        config = Config(learner=name)
        expected = {"vmil": config.discriminator, "dac_drq": config.dac}.get(name)
        assert discriminator_settings(config) is expected


@pytest.mark.parametrize(("algo", "length", "share"), [("sqil_drq", 4, 0.5), ("dac_drq", 4, 0.3334), ("bc", 3, 1.0)])
@pytest.mark.parametrize("compute", ["cpu", "debug"])
def test_a_definition_stands_against_any_size(algo: str, length: int, share: float, compute: str) -> None:
    training = load_config([f"algo={algo}", f"compute={compute}"]).training
    assert (training.batch_length, training.demo_fraction, training.pretrain_updates) == (length, share, 0)


def test_a_longer_stack_takes_longer_slices() -> None:
    assert load_config(["algo=sqil_drq", "pixels.frame_stack=5"]).training.batch_length == 6
    assert load_config(["algo=bc", "pixels.frame_stack=1"]).training.batch_length == 1


@pytest.mark.parametrize("algo", ["sqil_drq", "dac_drq"])
def test_with_the_true_reward_there_is_no_expert(algo: str) -> None:
    assert load_config([f"algo={algo}", "debug.use_ground_truth_reward=true"]).training.demo_fraction == 0.0


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["algo=vmil", "drq.lr=1e-4"], "drq.lr changes nothing here: the learner vmil does not read it"),
        (["algo=bc", "world_model.deter=9"], "world_model.deter changes nothing here: the learner bc does not read it"),
        (["algo=bc", "training.replay_frames=90000"], "training.replay_frames changes nothing here: the learner bc"),
        (["algo=bc", "training.seed_frames=9"], "training.seed_frames changes nothing here: the learner bc does not"),
        (
            ["algo=sqil_drq", "training.demo_fraction=0.25"],
            "training.demo_fraction=0.25 cannot be: the learner sqil_drq",
        ),
        (
            ["algo=sqil_drq", "training.batch_length=9"],
            "training.batch_length=9 cannot be: the learner sqil_drq needs 4",
        ),
        (["algo=sqil_drq", "training.batch_size=7"], "training.batch_size=7 is odd: half of it is the expert's"),
        (["algo=dac_drq", "training.demo_fraction=1"], "leaves the learner dac_drq no agent's transition"),
        (["algo=bc", "debug.use_ground_truth_reward=true"], "behaviour cloning has no reward to replace"),
        (["algo=bc", "env.image_size=16", "pixels.layers=5"], "env.image_size=16 leaves nothing after pixels.layers=5"),
        (["algo=sqil_drq", "drq.max_log_std=-11"], "drq.max_log_std=-11.0 must exceed drq.min_log_std=-10.0"),
        (["algo=vmil", "env.image_size=84"], "env.image_size=84 is outside [64, 64]"),
        (
            ["algo=vmil", "training.batch_length=1", "behaviour.dream_starts=0"],
            "training.batch_length=1 is outside [2, inf)",
        ),
        (["learner=drq"], "learner=drq is not one of vmil, sqil_drq, dac_drq, bc"),
    ],
)
def test_what_cannot_be_is_one_sentence(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(overrides)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_picture_sizes_are_the_baselines_choice() -> None:
    assert load_config(["algo=sqil_drq", "env.image_size=84"]).env.image_size == 84


def test_a_saved_run_is_held_to_its_definition_too(tmp_path) -> None:
    save_config(load_config(["algo=sqil_drq"]), tmp_path / "config.yaml")
    assert load_saved_config(tmp_path / "config.yaml", ["compute=cpu"]).training.batch_length == 4
    with pytest.raises(UserError, match=r"behaviour\.horizon changes nothing here"):
        load_saved_config(tmp_path / "config.yaml", ["behaviour.horizon=3"])
