"""Single runs: train, resume, evaluate, ship, and their configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmil.commands.settings import prepare_opengl
from vmil.config.commands import options_of, split
from vmil.config.load import load_config, load_saved_config, to_yaml
from vmil.config.runs import CONFIG_FILE, file_name, find_pretrained, find_run
from vmil.config.schema import Config
from vmil.config.schema_cli import EvaluateOptions, RunOptions, ShipOptions
from vmil.errors import OK, UserError
from vmil.system.paths import given_path

CARD_EPISODES = 10  # that a shipped policy is measured over, at least


def train(overrides: Sequence[str]) -> int:
    """Train from the start."""
    config = load_config(overrides)
    if config.demos.path is not None:
        from vmil.data.demo_files import find_demos  # light: numpy only

        find_demos(config.env.name, config.demos, config.seed)
    prepare_opengl(config)
    from vmil.algorithms import make_learner
    from vmil.training import run

    run.train(config, make_learner)
    return OK


def resume(overrides: Sequence[str]) -> int:
    """Go on with a run that was stopped."""
    options, rest = split(RunOptions, overrides)
    directory = find_run(options.run, given_path("root", options.root))
    prepare_opengl(load_saved_config(directory / CONFIG_FILE, rest))  # both complain before torch is imported
    from vmil.algorithms import make_learner
    from vmil.training import run

    run.resume(directory, make_learner, rest)
    return OK


def evaluate(overrides: Sequence[str]) -> int:
    """Score a run, or a policy that came with vmil, over fresh episodes and film it."""
    options = options_of(EvaluateOptions, overrides)
    if options.pretrained is None:
        directory = find_run(options.run, given_path("root", options.root))
        video = directory / "videos" / "evaluation.mp4"
    elif options.run == "latest":
        directory = find_pretrained(options.pretrained)
        video = Path(f"{file_name(Path(options.pretrained).name)}-evaluation.mp4")
    else:
        raise UserError(f"run={options.run} and pretrained={options.pretrained} are two things to evaluate: give one")
    video = given_path("video", options.video) if options.video else video
    config = load_saved_config(directory / CONFIG_FILE)
    prepare_opengl(config)
    episodes = _episodes(options.episodes, config)
    from vmil.algorithms import make_learner

    if options.pretrained is None:
        from vmil.training.trained import evaluate_run

        evaluate_run(directory, make_learner, episodes, video)
    else:
        from vmil.training.pretrained import evaluate_pretrained

        evaluate_pretrained(directory, make_learner, episodes, video)
    return OK


def ship(overrides: Sequence[str]) -> int:
    """Make a run's policy one that ships with vmil: weights, configuration, card."""
    options = options_of(ShipOptions, overrides)
    directory = find_run(options.run, given_path("root", options.root))
    config = load_saved_config(directory / CONFIG_FILE)
    episodes = _episodes(options.episodes, config)
    if 0 < episodes < CARD_EPISODES:
        raise UserError(
            f"episodes={episodes} is outside [{CARD_EPISODES}, inf): a card tells the mean of that many; "
            "0 plays none, and the card says that it is not scored"
        )
    prepare_opengl(config)
    from vmil.algorithms import make_learner
    from vmil.analysis.ship import ship_run

    print(f"shipped as {ship_run(directory, make_learner, options, episodes)}")
    return OK


def show_config(overrides: Sequence[str]) -> int:
    """Print the configuration that these settings resolve to."""
    print(to_yaml(load_config(overrides)), end="")
    return OK


def _episodes(asked: int | None, config: Config) -> int:
    return max(CARD_EPISODES, config.training.eval_episodes) if asked is None else asked
