"""From the command line's options to baoding's expert."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from vmil.config.schema import EnvConfig
from vmil.config.schema_cli import PlannedDemosOptions, PlannedExpertOptions
from vmil.config.schema_planner import LearnedConfig, PlannerConfig
from vmil.config.schema_ppo import HandPolicyConfig
from vmil.errors import UserError
from vmil.experts.expert import ACTOR, PROVENANCE
from vmil.experts.hand_expert import HandExpert, Planner, measure_expert
from vmil.experts.hand_measurement import check_measured
from vmil.experts.hand_planners import PlannedExpert, make_planner, plan_settings
from vmil.experts.hand_policy import PolicyExpert, PolicyPlanner, train_hand_policy

Options = PlannedExpertOptions | PlannedDemosOptions
Part = TypeVar("Part", PlannerConfig, LearnedConfig, HandPolicyConfig)


def hand_expert(options: Options, env: EnvConfig, directory: Path, provenance: Path) -> HandExpert:
    """The expert to record (it gives up what cannot succeed) or to measure (whole episodes; trained first).

    directory: where the ensemble of dynamics=learned is, or the actor of method=ppo, if not the one that came with
    vmil. provenance: the measurement, for the card.
    """
    measuring = isinstance(options, PlannedExpertOptions)
    if measuring:
        _refuse_idle(options)
    if options.method == "mppi":
        planner = _planner(options, env, directory, provenance)
        return PlannedExpert(env, planner, provenance, give_up=not measuring)
    elif options.method == "ppo":
        policy = _policy(options, directory, provenance)
        return PolicyExpert(env, policy, provenance, give_up=not measuring)
    else:
        raise ValueError(f"unknown method {options.method!r}")


def _planner(options: Options, env: EnvConfig, directory: Path, provenance: Path) -> Planner:
    config, learned = _part(options, PlannerConfig), _part(options, LearnedConfig)
    measuring = isinstance(options, PlannedExpertOptions)
    if measuring:
        check_measured(provenance, plan_settings(config, learned))  # before hours of training
    return make_planner(env, config, learned, options.seed, directory, train=measuring)


def _policy(options: Options, directory: Path, provenance: Path) -> PolicyPlanner:
    if isinstance(options, PlannedExpertOptions):
        config = _part(options, HandPolicyConfig)
        curve = train_hand_policy(config, directory, options.seed, options.eval_episodes)
        return PolicyPlanner(directory / ACTOR, curve, config)
    actor = provenance.with_name(ACTOR)
    if not actor.is_file():
        raise UserError(f"there is no actor '{actor}': `make expert ENV={options.env} ARGS=method=ppo` trains one")
    return PolicyPlanner(actor)


def prepare_planned(options: PlannedExpertOptions, env: EnvConfig, out: Path) -> str:
    """Train what has to be trained, measure the expert, and return what to tell."""
    expert = hand_expert(options, env, out, out / PROVENANCE)
    try:
        measured = measure_expert(expert, out / PROVENANCE, options.eval_episodes, note=options.note)
    finally:
        expert.close()
    return f"{measured}; written to {out / PROVENANCE}"


def _part(options: Options, schema: type[Part]) -> Part:
    return schema(**{item.name: getattr(options, item.name) for item in fields(schema)})


def _refuse_idle(options: Options) -> None:
    """UserError for a setting that this kind of expert does not read."""
    planned = [PlannerConfig, LearnedConfig] if options.dynamics == "learned" else [PlannerConfig]
    schemas: list[type[Any]] = [HandPolicyConfig] if options.method == "ppo" else planned
    read = {item.name for schema in schemas for item in fields(schema)}
    every = {item.name for schema in (PlannerConfig, LearnedConfig, HandPolicyConfig) for item in fields(schema)}
    for name in sorted(every - read - {"method"}):
        if getattr(options, name) != getattr(PlannedExpertOptions(), name):
            raise UserError(f"{name}= changes nothing with method={options.method} and dynamics={options.dynamics}")
