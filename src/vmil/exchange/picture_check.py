"""Do imported pictures look as the run's own? If not, a discriminator can tell expert from agent by the renderer."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np

from vmil.config.schema import EnvConfig, RenderProfile
from vmil.data.formats.source import SourceEpisode
from vmil.envs.factory import make_env, render_states
from vmil.envs.rendering import PROFILES
from vmil.envs.tasks import draws_itself
from vmil.errors import UserError

STARTS = 6  # own first pictures whose colours are known
ALIKE = 1.0  # grey levels of mean absolute difference, which other OpenGL drivers cause
# Of the distance: how much nearer another profile must be to be named. On walker, cheetah, cartpole, reacher the right
# profile leaves 1 to 6 % of the pixels in unknown colours, and the wrong one two to ninety times as many.
CLEARLY = 0.6
STRANGE = 0.5  # share of pixels in unknown colours, which no profile and no pose explains


def compare_pictures(episodes: list[SourceEpisode], env: EnvConfig) -> list[str]:
    """What the first pictures of a few episodes say about the renderer, as sentences; the first gives the numbers.

    With physics states the same moment is drawn and compared. Without, the poses differ, but the colours should not: it
    is counted how many pixels are in colours that the run's own first pictures do not show.
    """
    if draws_itself(env.name):
        return []
    exact = [episode for episode in episodes if episode.physics is not None]
    measure = _difference if exact else _unknown_colours
    try:
        found = {profile: measure(exact or episodes, replace(env, render_profile=profile)) for profile in PROFILES}
    except (UserError, OSError) as error:  # a robot may not be connected
        return [f"the pictures could not be compared with the run's own: {error}"]
    if exact:
        listed = ", ".join(f"{profile} {value:.1f}" for profile, value in found.items())
        said = (
            f"mean absolute difference from the run's own pictures of the same states, in grey levels of 255: {listed}"
        )
    else:
        listed = ", ".join(f"{profile} {100 * value:.0f} %" for profile, value in found.items())
        said = f"pixels in colours that {STARTS} first pictures of the run itself do not show: {listed}"
    return [said, *_warnings(found, env, known=ALIKE if exact else STRANGE)]


def _warnings(found: dict[RenderProfile, float], env: EnvConfig, known: float) -> list[str]:
    nearest, own = min(found, key=lambda profile: found[profile]), found[env.render_profile]
    if nearest != env.render_profile and found[nearest] < CLEARLY * own:
        return [
            f"WARNING: they look like env.render_profile={nearest}, not {env.render_profile}, "
            "and the discriminator would learn the difference: import and train with it"
        ]
    if own > known:
        return [
            "WARNING: they are not what this run's camera would show (env.camera, another renderer, compression?), "
            "and the discriminator may learn the difference"
        ]
    return []


def _difference(episodes: list[SourceEpisode], env: EnvConfig) -> float:
    """Mean absolute difference, in grey levels, between first pictures and the run's own of the same states."""
    drawn = [render_states(env, np.asarray(episode.physics, np.float64)[:1])[0] for episode in episodes]
    pairs = zip(episodes, drawn, strict=True)
    return float(np.mean([np.abs(episode.image[0].astype(int) - own.astype(int)).mean() for episode, own in pairs]))


def _unknown_colours(episodes: list[SourceEpisode], env: EnvConfig) -> float:
    """Share of the first pictures' pixels whose exact colour is in none of the run's own first pictures."""
    with closing(make_env(env, seed=0)) as run:
        own = np.stack([run.reset()["image"].numpy() for _ in range(STARTS)])
    seen = _colours(np.stack([episode.image[0] for episode in episodes]))
    return float(1 - np.isin(seen, np.unique(_colours(own))).mean())


def _colours(pictures: np.ndarray) -> np.ndarray:
    """One number per pixel of (N, H, W, 3): (N · H · W,)."""
    return pictures.reshape(-1, 3).astype(np.int64) @ np.array([65536, 256, 1])
