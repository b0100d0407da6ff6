"""Ranges of single numbers, and rules between two of them."""

import dataclasses
import math
from typing import get_args

import pytest

from vmil.config import schema_cli, validate
from vmil.config.commands import options_of
from vmil.config.keys import flatten, leaves
from vmil.config.load import load_config
from vmil.config.ranges import Range, ranges_of
from vmil.config.schema import Config
from vmil.config.schema_cli import (
    BenchOptions,
    DemosOptions,
    EvaluateOptions,
    ExperimentOptions,
    ExpertOptions,
    PlannedExpertOptions,
    UiOptions,
)
from vmil.errors import UserError

OPTIONS = [schema for name, schema in vars(schema_cli).items() if name.endswith("Options")]


@pytest.mark.parametrize(
    ("allowed", "words", "inside", "outside"),
    [
        (Range(0, 1, "[]"), "[0, 1]", [0, 0.5, 1], [-0.1, 1.1, math.nan]),
        (Range(0, 1, "()"), "(0, 1)", [0.5], [0, 1]),
        (Range(1), "[1, inf)", [1, 1e300], [0, math.inf]),
        (Range(-math.inf, ends="()"), "(-inf, inf)", [-1e300, 0], [-math.inf, math.inf, math.nan]),
    ],
)
def test_ranges_mean_what_they_say(allowed, words, inside, outside):
    assert str(allowed) == words
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)


@pytest.mark.parametrize("schema", [Config, *OPTIONS])
def test_every_number_has_a_range_and_every_range_a_number(schema):
    numbers = {key for key, hint in leaves(schema).items() if {int, float} & {hint, *get_args(hint)}}
    assert set(ranges_of(schema)) == numbers


def test_a_range_is_the_command_s_own():
    assert ranges_of(PlannedExpertOptions)["ppo_frames"] == Range(0)
    assert ranges_of(PlannedExpertOptions)["sigma"] == Range(0)  # of a number or null
    assert ranges_of(Config)["behaviour.discount"] == Range(0, 1, "[]")
    assert ranges_of(ExpertOptions)["discount"] == Range(0, 1)


def test_the_defaults_of_the_schema_are_valid():
    validate.check(Config())


@pytest.mark.parametrize("schema", OPTIONS)
def test_the_defaults_of_every_command_are_valid(schema):
    assert flatten(options_of(schema, [])) == flatten(schema())


@pytest.mark.parametrize(
    ("schema", "override", "sentence"),
    [
        (EvaluateOptions, "episodes=0", "episodes=0 is outside [1, inf)"),
        (ExpertOptions, "learning_rate=-1", "learning_rate=-1.0 is outside (0, inf)"),
        (ExpertOptions, "discount=2", "discount=2.0 is outside [0, 1)"),
        (ExpertOptions, "frames=0", "frames=0 is outside [1, inf)"),
        (ExpertOptions, "ppo_std=.nan", "ppo_std=nan is outside (0, inf)"),
        (ExpertOptions, "seed=-1", "seed=-1 is outside [0, 4294967295]"),
        (PlannedExpertOptions, "sigma=-0.1", "sigma=-0.1 is outside [0, inf)"),
        (PlannedExpertOptions, "ppo_reference_share=1.5", "ppo_reference_share=1.5 is outside [0, 1]"),
        (DemosOptions, "count=0", "count=0 is outside [1, inf)"),
        (DemosOptions, "action_noise=-0.1", "action_noise=-0.1 is outside [0, inf)"),
        (ExperimentOptions, "jobs=-1", "jobs=-1 is outside [0, inf)"),
        (UiOptions, "port=0", "port=0 is outside [1, 65535]"),
        (BenchOptions, "warmup=-1", "warmup=-1 is outside [0, inf)"),
    ],
)
def test_an_option_out_of_range_is_refused(schema, override, sentence):
    with pytest.raises(UserError) as caught:
        options_of(schema, [override])
    assert str(caught.value) == sentence


def test_an_option_of_null_is_in_any_range():
    assert options_of(EvaluateOptions, ["episodes=null"]).episodes is None


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["seed=-1"], "seed=-1 is outside [0, 4294967295]"),
        (["world_model.lr=nan"], "world_model.lr=nan is outside (0, inf)"),
        (["world_model.deter=0"], "world_model.deter=0 is outside [1, inf)"),
        (["behaviour.horizon=0"], "behaviour.horizon=0 is outside [1, inf)"),
        (["training.demo_fraction=0"], "training.demo_fraction=0.0 is outside (0, 1]"),
        (["env.image_size=32"], "env.image_size=32 is outside [64, 64]"),
        (
            ["env.episode_frames=1001"],
            "env.episode_frames=1001 is not a multiple of env.action_repeat=2; the next one is 1002",
        ),
        (
            ["training.frames_per_epoch=1500"],
            "training.frames_per_epoch=1500 is not a multiple of env.episode_frames=1000; the next one is 2000",
        ),
        (
            ["training.episode_frames=250", "training.frames_per_epoch=600"],
            "training.frames_per_epoch=600 is not a multiple of training.episode_frames=250; the next one is 750",
        ),
        (
            ["training.episode_frames=251"],
            "training.episode_frames=251 is not a multiple of env.action_repeat=2; the next one is 252",
        ),
        (
            ["training.episode_frames=50"],
            "is longer than an episode of 25 agent steps (training.episode_frames / env.action_repeat)",
        ),
        (
            ["training.episode_frames=250", "training.whole_episodes_from=5000", "training.frames_per_epoch=1250"],
            "training.frames_per_epoch=1250 is not a multiple of env.episode_frames=1000; the next one is 2000",
        ),
        (
            ["training.episode_frames=50", "training.whole_episodes_from=5000"],
            "is longer than an episode of 25 agent steps (training.episode_frames / env.action_repeat)",
        ),
        (
            ["collector.overlap=true"],
            "collector.overlap=true needs collector.backend=process or ray: direct plays and learns by turns",
        ),
        (["collector.workers=2"], "collector.workers=2 needs collector.backend=process or ray: direct is one alone"),
        (
            ["collector.backend=process", "collector.workers=2"],
            "training.frames_per_epoch=1000 would leave some of those that collect idle: it is not a multiple of "
            "collector.workers × env.episode_frames = 2000; the next one is 2000",
        ),
        (
            ["compute.devices=2", "compute.nodes=2"],
            "it is not a multiple of compute.devices × compute.nodes × collector.workers × env.episode_frames = 4000; "
            "the next one is 4000",
        ),
        (
            ["compute.devices=2", "training.frames_per_epoch=2000", "compute.graphs=always"],
            "compute.graphs=always cannot be with several devices: what they send each other is not recorded",
        ),
        (["training.replay_frames=500"], "cannot hold one round of training.frames_per_epoch=1000"),
        (
            ["training.batch_length=501"],
            "is longer than an episode of 500 agent steps (env.episode_frames / env.action_repeat)",
        ),
        (
            ["training.batch_size=2", "training.batch_length=8", "behaviour.dream_starts=17"],
            "exceeds the 16 states of a batch (training.batch_size × training.batch_length)",
        ),
        (
            ["discriminator.dream_negatives=false"],
            "leaves D nothing to compare the expert with: set replay_negatives=true",
        ),
        (
            ["discriminator.replay_negatives=true", "training.demo_fraction=1"],
            "needs agent sequences in the batch: lower training.demo_fraction or raise training.batch_size",
        ),
        (
            ["behaviour.policy=clipped_normal", "behaviour.min_std=2", "behaviour.max_std=1"],
            "behaviour.init_std=0.2 must lie between behaviour.min_std=2.0 and behaviour.max_std=1.0",
        ),
        (
            ["algo=vmil_plus", "behaviour.init_std=0.5"],
            "behaviour.init_std=0.5 must lie between behaviour.min_std=0.1 and behaviour.max_std=0.4",
        ),
        (["run.name=a/b"], "run.name=a/b is not a directory name; its parent is run.root"),
    ],
)
def test_what_cannot_run_is_refused(overrides, sentence):
    with pytest.raises(UserError) as caught:
        load_config(["training.episode_frames=0", *overrides])  # as long as scored ones, unless a case says otherwise
    assert str(caught.value).endswith(sentence)


def test_graphs_on_several_devices_are_refused_to_who_collects_nothing_too():
    with pytest.raises(UserError, match=r"^compute\.graphs=always cannot be with several devices"):
        load_config(["algo=bc", "compute.devices=2", "compute.graphs=always"])


def test_edges_are_accepted():
    whole = ["training.episode_frames=0", "training.batch_length=500"]
    load_config([*whole, "training.demo_fraction=1", "behaviour.lam=0", "behaviour.lam=1"])
    load_config(["training.batch_size=2", "training.batch_length=8", "behaviour.dream_starts=16"])


def test_who_plays_nothing_may_have_rounds_of_any_length():
    load_config(["algo=bc", "training.frames_per_epoch=1500"])


def test_a_configuration_made_in_python_is_checked_alike():
    config = Config()
    bad = dataclasses.replace(config, behaviour=dataclasses.replace(config.behaviour, discount=1.5))
    with pytest.raises(UserError, match=r"behaviour.discount=1.5 is outside \[0, 1\]"):
        validate.check(bad)
