"""Checks of an imported episode without a simulator: why to refuse it, and what a person should look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vmil.config.schema import Config
from vmil.config.schema_cli import FormatName
from vmil.data.formats.source import ReadOptions, SourceEpisode, alignment_of, is_idle
from vmil.data.recording import MAX_STEPS, too_large
from vmil.envs.factory import EnvInfo

REPEATS = (1, 2, 4, 8)  # in common use
SMALL = 0.1  # of actions, which should use [-1, 1]
LARGE = 10.0  # of a vector observation: its squared error is added to that of pixels in [-0.5, 0.5]


@dataclass
class Findings:
    """What was found about one episode; `refused` is why it cannot be used, `replayed` that its actions were proven."""

    refused: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    replayed: bool = False

    @property
    def verdict(self) -> str:
        """In words, for a table."""
        if self.refused:
            return "refused: " + "; ".join(self.refused)
        return "; ".join(["ok", *self.warnings])


def without_bad_rewards(episode: SourceEpisode) -> SourceEpisode:
    """The episode without its rewards if one of them is NaN or infinite, with a note: they are for scores only."""
    if episode.reward is None or np.isfinite(episode.reward).all():
        return episode
    return replace(episode, reward=None, notes=(*episode.notes, "NaN or infinite rewards, which are left out"))


def examine(episode: SourceEpisode, config: Config, info: EnvInfo, refuse_short: bool = False) -> Findings:
    """Sizes, ranges, NaN and infinity, length and action repeat of one episode, against the run's task.

    refuse_short: an episode too short to train on is refused, rather than warned about.
    """
    found = Findings(warnings=list(episode.notes))
    _examine_actions(episode, info, found)
    _examine_observations(episode, config, info, found)
    if episode.reward is None:
        found.warnings.append("no rewards, so no expert score")
    _examine_length(len(episode.action), config, info, found)
    _examine_rate(episode, info, found)
    _examine_size(episode, found)
    if len(episode.action) < config.training.batch_length:
        short = f"too short for training.batch_length={config.training.batch_length}"
        (found.refused if refuse_short else found.warnings).append(short)
    return found


def _examine_actions(episode: SourceEpisode, info: EnvInfo, found: Findings) -> None:
    action = episode.action
    if action.shape[1] != info.action_size:
        found.refused.append(f"{action.shape[1]} action dimensions, the task has {info.action_size}")
    if not action.size:
        found.refused.append("no action")
    elif not np.isfinite(action).all():
        found.refused.append("NaN or infinite in the actions")
    elif np.abs(action).max() > 1 + 1e-5:
        low, high = action.min(0), action.max(0)
        found.refused.append(
            f"actions in [{low.min():.3g}, {high.max():.3g}]: action_low and action_high say which range is [-1, 1]"
        )
    elif len(action) > 1 and not np.ptp(action, axis=0).any():
        found.warnings.append("the action never changes")
    elif np.abs(action).max() < SMALL:
        found.warnings.append(
            f"actions reach only {np.abs(action).max():.2g}: if they are in other units, action_low and action_high "
            "say which range is [-1, 1]"
        )


def _examine_observations(episode: SourceEpisode, config: Config, info: EnvInfo, found: Findings) -> None:
    if len(episode.image) > 1 and not np.ptp(episode.image, axis=0).any():
        found.warnings.append("all images are the same")
    for name, array in (("proprio", episode.proprio), ("physics", episode.physics)):
        if array is not None and not np.isfinite(array).all():
            found.refused.append(f"NaN or infinite in {name}")
    proprio = episode.proprio
    if proprio is not None and np.isfinite(proprio).all() and np.abs(proprio).max(initial=0.0) > LARGE:
        found.warnings.append(
            f"proprio reaches {np.abs(proprio).max():.3g} and is used as it is, so that it can drown the pictures: "
            "scale it to about [-1, 1], in the files and in the environment alike"
        )
    if not config.env.proprio:
        return
    if episode.proprio is None:
        found.refused.append("no proprio, which env.proprio=true needs: proprio=<array> names it")
    elif episode.proprio.shape[1] != info.proprio_size:
        found.refused.append(f"{episode.proprio.shape[1]} numbers of proprio, the task has {info.proprio_size}")


def _examine_length(steps: int, config: Config, info: EnvInfo, found: Findings) -> None:
    """An episode that is longer than the task's, or that another action repeat makes exactly as long, is suspicious."""
    frames, repeat = config.env.episode_frames, config.env.action_repeat
    others = [other for other in REPEATS if other != repeat and steps * other == frames]
    if others and steps != info.steps_per_episode:
        found.warnings.append(f"{steps} steps make an episode of {frames} frames if action_repeat was {others[0]}")
    elif steps > info.steps_per_episode:
        found.warnings.append(f"longer than the task's {info.steps_per_episode} agent steps: another action repeat?")


def _examine_size(episode: SourceEpisode, found: Findings) -> None:
    """What is more than a demonstration may hold could not be read again."""
    reason = too_large(episode.arrays)
    if reason is not None:
        found.refused.append(f"{reason}: cut it, or lower env.image_size")
    if len(episode.action) > MAX_STEPS:
        found.refused.append(f"{len(episode.action)} steps, a demonstration has {MAX_STEPS} at the most: cut it")


def _examine_rate(episode: SourceEpisode, info: EnvInfo, found: Findings) -> None:
    """A source that states its rate should have the run's."""
    if episode.fps is None or info.frames_per_second is None:
        return
    expected = info.frames_per_second / info.frames_per_step
    if abs(episode.fps - expected) > 0.01 * expected:
        found.warnings.append(
            f"{episode.fps:g} steps a second, the run's are {expected:g} "
            f"({info.frames_per_second:g} frames / env.action_repeat): another action repeat?"
        )


def alignment_words(format: FormatName, options: ReadOptions, replayed: bool) -> list[str]:
    """Which alignment a source was read with and whose choice that was; a warning if nothing supports it.

    replayed: the actions of every episode lead from one of its physics states to the next.
    """
    alignment = alignment_of(format, options)
    whose = f"{format}'s convention" if options.alignment == "auto" else "as was said"
    meaning, other = ("led to", "at") if alignment == "led_to" else ("was taken at", "led_to")
    words = [f"read as {alignment} ({whose}): action[t] {meaning} image[t]; alignment={other} overrules"]
    if format == "npz" and options.alignment == "auto" and not replayed:
        # No array tells who wrote a file: DreamerV2, which is led_to, and RLDS, which is at, have the same ones. Warned
        # about, not refused: those whose first action is not zero are refused already.
        words.append(
            "WARNING: nothing in .npz files tells which it is, and led_to is a guess: if action[t] was taken at "
            "image[t], every action is one step off; import them with alignment=at, or alignment=led_to if you know"
        )
    return words


def suspicious_openings(first_actions: Sequence[np.ndarray], options: ReadOptions) -> str | None:
    """A warning if every episode's first action is zero in its file, as where action[t] led to image[t]; None if not.

    That is all that actions and images alone can say. A regression of the next picture on the actions of neighbouring
    steps was tried on the walker's demonstrations and cannot tell a shift by one: the right action explains 2 % of what
    the last two pictures do not, and its neighbours half of that.
    """
    if len(first_actions) > 1 and all(is_idle(action, options) for action in first_actions):
        return (
            "the first action of every episode is exactly zero, as in files where action[t] led to image[t]: "
            "if these are such files, import them with alignment=led_to"
        )
    return None
