"""From the command line's options to an expert that plans."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from vmil.config.errors import UserError
from vmil.config.schema import EnvConfig
from vmil.config.schema_cli import PlannedDemosOptions, PlannedExpertOptions
from vmil.config.schema_planner import LearnedConfig, PlannerConfig
from vmil.config.schema_ppo import HandPolicyConfig
from vmil.experts.hand_policy import ACTOR, PolicyPlanner, train_hand_policy
from vmil.experts.plan import CHECKPOINT, make_planner
from vmil.experts.planned import PlannedExpert, check_measured, measure_expert, plan_settings, policy_settings

Options = PlannedExpertOptions | PlannedDemosOptions


def planned_expert(options: Options, env: EnvConfig, directory: Path, provenance: Path) -> PlannedExpert:
    """The expert to record (it gives up what cannot succeed) or to measure (whole episodes; trained first).

    directory: where the ensemble of dynamics=learned is, or the actor of method=ppo, if not the one that came with
    vmil. provenance: the measurement, for the card.
    """
    measuring = isinstance(options, PlannedExpertOptions)
    if measuring:
        _refuse_idle(options)
    if options.method == "ppo":
        return _policy_expert(options, env, directory, provenance)
    config, learned = _part(options, PlannerConfig), _part(options, LearnedConfig)
    settings = plan_settings(config, learned)
    if measuring:
        check_measured(provenance, settings)  # before hours of training
    planner = make_planner(env, config, learned, options.seed, directory, train=measuring)
    weights = directory / CHECKPOINT if config.dynamics == "learned" else None
    return PlannedExpert(env, planner, settings, provenance, not measuring, True, weights)


def _policy_expert(options: Options, env: EnvConfig, directory: Path, provenance: Path) -> PlannedExpert:
    config, actor = _part(options, HandPolicyConfig), directory / ACTOR
    if isinstance(options, PlannedExpertOptions):
        curve = train_hand_policy(config, directory, options.seed, options.eval_episodes)
        return PlannedExpert(env, PolicyPlanner(actor, curve), policy_settings(config), provenance, False, True, actor)
    actor = provenance.with_name(ACTOR)
    if not actor.is_file():
        raise UserError(f"there is no actor '{actor}': `make expert ENV={options.env} ARGS=method=ppo` trains one")
    measured = json.loads(provenance.read_text())["planner"] if provenance.is_file() else {}
    settings = measured if measured.get("method") == "ppo" else {"method": "ppo"}
    return PlannedExpert(env, PolicyPlanner(actor), settings, provenance, True, True, actor)


def prepare_planned(options: PlannedExpertOptions, env: EnvConfig, out: Path) -> str:
    """Train what has to be trained, measure the expert, and return what to tell."""
    expert = planned_expert(options, env, out, out / "expert.json")
    try:
        measured = measure_expert(expert, out / "expert.json", options.eval_episodes, note=options.note)
    finally:
        expert.close()
    return f"{measured}; written to {out / 'expert.json'}"


def _part(options: Options, schema: type[Any]) -> Any:
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
