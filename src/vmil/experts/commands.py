"""What `vmil expert` and `vmil demos` do, whatever kind of expert the task has."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path

from vmil.config.runs import assets_dir, file_name
from vmil.config.schema_cli import DemosOptions, ExpertOptions, PlannedDemosOptions, PlannedExpertOptions
from vmil.config.schema_expert import ExpertConfig
from vmil.envs.rendering import prepare_rendering
from vmil.errors import UserError
from vmil.experts.expert import ACTOR, PROVENANCE, Expert, Kind
from vmil.experts.kinds import expert_kind, make_expert, task_config
from vmil.system.paths import given_path

COUNTS = {"sawyer": 50, "baoding": 25}  # demonstrations that the paper's experiments take; 10 of every other task
# That `vmil demos` reads, where there is one.
FILES: dict[Kind, str] = {"sac": ACTOR, "scripted": PROVENANCE, "planned": PROVENANCE, "optimal": PROVENANCE}


def prepare(options: ExpertOptions | PlannedExpertOptions) -> str:
    """Train the task's expert, or measure it if there is nothing to train; return what to tell."""
    kind = expert_kind(options.env)
    usual = _expert_dir(options.root, options.env, options.seed)
    out = usual if options.out is None else given_path("out", options.out)
    if isinstance(options, PlannedExpertOptions):
        return _prepare_planned(options, out)
    if kind == "sac":
        prepare_rendering(task_config(options.env))  # torchrl imports mujoco, which must find its OpenGL chosen
        from vmil.experts.sac import train_expert

        knobs = {item.name: getattr(options, item.name) for item in fields(ExpertConfig)}
        score = train_expert(ExpertConfig(**knobs), options.env, out, options.seed, options.resume)
        return f"mean return {score:.1f}; the actor is {out / FILES[kind]}"
    elif kind == "scripted":
        _refuse_training(options)
        config = task_config(options.env)
        prepare_rendering(config)
        from vmil.experts.scripted import measure_expert

        measured = measure_expert(config, out, options.eval_episodes)
        return f"nothing to train, the expert is scripted: {measured.summary}; written to {out / FILES[kind]}"
    elif kind == "optimal":
        raise UserError(f"{options.env} needs no expert made: `make demos ENV={options.env}` records the best policy")
    else:
        raise ValueError(f"no expert of kind {kind!r} is prepared")


def record(options: DemosOptions) -> str:
    """Record the task's expert; return what to tell."""
    kind = expert_kind(options.env)
    known = _known_expert(options, kind)
    if kind == "sac" and not known.is_file():
        raise UserError(
            f"there is no actor '{known}': `make expert ENV={options.env}` trains one, actor= names another"
        )
    out = given_path("out", options.out or f"{options.root}/demos-{file_name(options.env)}-s{options.seed}")
    count = COUNTS.get(options.env, 10) if options.count is None else options.count
    config = task_config(options.env)
    prepare_rendering(config)
    from vmil.experts.card import Recipe
    from vmil.experts.record import record_demos

    recipe = Recipe(count, options.seed, options.min_return, options.action_noise, _chosen(options))
    expert = _expert(options, known)
    try:
        written = record_demos(expert, config, out, recipe)
    finally:
        expert.close()
    return (
        f"{len(written)} demonstrations in {out / 'demos'}, with {out / 'CARD.md'} and {out / 'contact_sheet.png'}; "
        f"train on them with demos.path={out / 'demos'}"
    )


def _prepare_planned(options: PlannedExpertOptions, out: Path) -> str:
    config = task_config(options.env)
    prepare_rendering(config)
    from vmil.experts.hand_commands import prepare_planned

    return prepare_planned(options, config, out)


def _expert(options: DemosOptions, known: Path) -> Expert:
    if not isinstance(options, PlannedDemosOptions):
        return make_expert(options.env, known)
    from vmil.experts.hand_commands import hand_expert

    directory = _expert_dir(options.root, options.env, options.seed)
    return hand_expert(options, task_config(options.env), directory, known)


def _chosen(options: DemosOptions) -> tuple[str, ...]:
    """The given options that decide which expert is recorded, as `key=value`."""
    others = {"env", "seed", "count", "min_return", "action_noise", "out"}
    default = type(options)()
    given = {item.name: getattr(options, item.name) for item in fields(options) if item.name not in others}
    return tuple(
        f"{name}={shlex.quote(str(value))}" for name, value in given.items() if value != getattr(default, name)
    )


def _refuse_training(options: ExpertOptions) -> None:
    ours = {"env", "seed", "out", "root", "resume", "eval_episodes"}
    default = ExpertOptions()
    for item in fields(ExpertOptions):
        if item.name not in ours and getattr(options, item.name) != getattr(default, item.name):
            raise UserError(
                f"{item.name}= has no meaning for {options.env}: its expert is scripted, nothing is trained"
            )


def _known_expert(options: DemosOptions, kind: Kind) -> Path:
    """The actor, or the measurement of an expert that is not trained: the one named, made here, or shipped."""
    if options.actor is not None:
        if kind != "sac":
            raise UserError(f"actor= has no meaning for {options.env}: its expert is not a trained actor")
        return given_path("actor", options.actor)
    policy = isinstance(options, PlannedDemosOptions) and options.method == "ppo"
    needed = FILES["sac"] if policy else FILES[kind]  # a policy's measurement is nothing without its actor
    here = _expert_dir(options.root, options.env, options.seed)
    shipped = assets_dir(options.env)
    return (shipped if (shipped / needed).is_file() and not (here / needed).is_file() else here) / FILES[kind]


def _expert_dir(root: str, env: str, seed: int) -> Path:
    return given_path("root", root) / f"expert-{file_name(env)}-s{seed}"
