"""The commands of the expert that plans: play episodes and score them; keep the successful ones as demonstrations."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from vmil.config.errors import UserError
from vmil.config.load import load_config
from vmil.config.schema import EnvConfig
from vmil.config.schema_cli import PlanOptions
from vmil.config.schema_planner import LearnedConfig, PlannerConfig
from vmil.envs.baoding import BaodingEnv
from vmil.envs.factory import render_states
from vmil.evaluation.scores import Score, score
from vmil.experts.attempts import replay_attempt, run_attempts, save_attempt
from vmil.experts.hand_learned import BaodingTask, LearnedPlanner
from vmil.experts.pddm import PDDM, train_pddm
from vmil.experts.plan import Attempt, Planner, SimulatorPlanner, mppi_settings
from vmil.experts.plan_card import DemoLine, write_card
from vmil.tracking.pictures import contact_sheet

SEED_OFFSET = 20_000  # expert's episodes: neither a run's (its seed) nor its evaluations' (10 000 further)
SHEET_STEPS = 8  # pictures per demonstration on the contact sheet
REPLAY_TOLERANCE = 1e-6  # in the state's units; the warm start is stored, so that 0 is usual
CHECKPOINT = "pddm.pt"


def _part(options: PlanOptions, schema: type[Any]) -> Any:
    return schema(**{item.name: getattr(options, item.name) for item in fields(schema)})


def plan_settings(options: PlanOptions) -> dict[str, Any]:
    """What an episode depends on besides its seed, as JSON: threads change nothing."""
    settings = {**asdict(_part(options, PlannerConfig)), "threads": None}
    return settings | (asdict(_part(options, LearnedConfig)) if options.dynamics == "learned" else {})


def _env(options: PlanOptions) -> BaodingEnv:
    if options.env != "baoding":
        raise UserError(f"no planner is made for env {options.env}")
    return BaodingEnv(load_config([f"env={options.env}"]).env, options.seed + SEED_OFFSET)


def _planner(options: PlanOptions, learned_in: Path, train: bool) -> Planner:
    """MPPI through MuJoCo, or through an ensemble that is trained first (or taken as it is)."""
    config: PlannerConfig = _part(options, PlannerConfig)
    if config.dynamics == "simulator":
        return SimulatorPlanner(config)
    elif config.dynamics == "learned":
        checkpoint, learned = learned_in / CHECKPOINT, _part(options, LearnedConfig)
        if not train and not checkpoint.is_file():
            raise UserError(f"there is no ensemble '{checkpoint}': `make expert` with dynamics=learned trains one")
        env = BaodingEnv(load_config([f"env={options.env}"]).env, options.seed + 2 * SEED_OFFSET)
        pddm = PDDM(BaodingTask(env), learned, mppi_settings(config), options.seed)
        return LearnedPlanner(train_pddm(pddm, checkpoint))
    else:
        raise ValueError(f"unknown dynamics {config.dynamics!r}")


def plan_expert(options: PlanOptions, out: Path) -> Score:
    """Play `options.episodes` whole episodes (after training, with learned dynamics) and score them; resumable."""
    env, planner = _env(options), _planner(options, out, train=True)
    try:
        with tqdm(total=options.episodes, unit="episode") as bar:

            def enough(attempts: list[Attempt]) -> bool:
                bar.update(len(attempts) - bar.n)
                return len(attempts) >= options.episodes

            attempts = run_attempts(
                out / "attempts", env, planner, plan_settings(options), enough, False, bar.set_postfix_str
            )
    finally:
        planner.close()
        env.close()
    attempts = attempts[: options.episodes]
    scores = {name: [attempt.meta["scores"][name] for attempt in attempts] for name in BaodingEnv.SCORES}
    return score([attempt.meta["return"] for attempt in attempts], None, scores, "success")


def plan_demos(options: PlanOptions, out: Path, expert: Path) -> list[Path]:
    """Plan until `options.count` episodes have succeeded; demonstrations, card and contact sheet are in `out`.

    Goes on where it was stopped: `out`/attempts holds every episode so far, lost ones too. `expert`: where the ensemble
    is, with learned dynamics. RuntimeError when a recording cannot be replayed.
    """
    env, planner = _env(options), _planner(options, expert, train=False)
    paths = [out / "demos" / f"demo_{index:02d}.npz" for index in range(options.count)]
    (out / "demos").mkdir(parents=True, exist_ok=True)
    try:
        with tqdm(total=options.count, unit="demo") as bar:

            def enough(attempts: list[Attempt]) -> bool:
                won = sum(attempt.success for attempt in attempts)
                if attempts and attempts[-1].success:
                    _keep(paths[won - 1], attempts[-1])
                bar.update(won - bar.n)
                return won >= options.count

            attempts = run_attempts(
                out / "attempts", env, planner, plan_settings(options), enough, True, bar.set_postfix_str
            )
        lines = [_verify(env, path, each) for path, each in zip(paths, _won(attempts), strict=True)]
    finally:
        planner.close()
        env.close()
    write_card(out, lines, len(attempts), plan_settings(options), options.seed)
    draw_sheet(out / "contact_sheet.png", env.config, _won(attempts))
    return paths


def _won(attempts: list[Attempt]) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.success]


def _keep(path: Path, attempt: Attempt) -> None:
    if not path.exists():
        save_attempt(path, attempt)


def _verify(env: BaodingEnv, path: Path, attempt: Attempt) -> DemoLine:
    check = replay_attempt(env, attempt)
    if check.one_step_state > REPLAY_TOLERANCE or len(attempt.action) != env.steps_per_episode:
        raise RuntimeError(f"{path} cannot be replayed: {check}, {len(attempt.action)} steps")
    return DemoLine(path, attempt, check)


def draw_sheet(path: Path, config: EnvConfig, attempts: list[Attempt]) -> None:
    """A row of pictures for each demonstration, first to last."""
    moments = np.linspace(0, config.episode_frames, SHEET_STEPS).astype(int)
    images = np.concatenate([render_states(config, attempt.physics[moments]) for attempt in attempts])
    Image.fromarray(contact_sheet(images, SHEET_STEPS)).save(path)
