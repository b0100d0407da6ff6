"""Do imported pictures look as the run's own? If not, a discriminator can tell expert from agent by the renderer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vmil.config.errors import UserError
from vmil.config.schema import EnvConfig
from vmil.data.formats.source import SourceEpisode
from vmil.envs.factory import make_env, render_states
from vmil.envs.rendering import PROFILES

STARTS = 4  # own first pictures that the demonstrations' are compared with
ALIKE = 1.0  # grey levels of mean absolute difference, which other OpenGL drivers cause
CLEARLY = 0.6  # of the distance: how much nearer another profile must be to be named


def compare_pictures(episodes: list[SourceEpisode], env: EnvConfig) -> list[str]:
    """What the first pictures of a few episodes say about the renderer, as sentences; the first names the distance.

    With physics states the same moment is drawn. Without, the run's own first pictures are only like it: their distance
    compares render profiles, and is no verdict.
    """
    if env.name == "counting":
        return []
    exact = [episode for episode in episodes if episode.physics is not None]
    try:
        distances = {
            profile: _distance(exact or episodes, replace(env, render_profile=profile)) for profile in PROFILES
        }
    except UserError as error:
        return [f"the pictures could not be compared with the run's own: {error}"]
    own = distances[env.render_profile]
    what = "the run's own pictures of the same states" if exact else f"the nearest of {STARTS} own first pictures"
    listed = ", ".join(f"{profile} {distance:.1f}" for profile, distance in distances.items())
    said = [f"mean absolute difference from {what}, in grey levels of 255: {listed}"]
    nearest = min(distances, key=lambda profile: distances[profile])
    if nearest != env.render_profile and distances[nearest] < CLEARLY * own:
        said.append(
            f"WARNING: they look like env.render_profile={nearest}, not {env.render_profile}, "
            "and the discriminator would learn the difference: import and train with it"
        )
    elif exact and own > ALIKE:
        said.append(
            "WARNING: they are not what this run's camera would show (env.camera, another renderer, compression?), "
            "and the discriminator may learn the difference"
        )
    elif not exact:
        said.append(
            "whether the agent's own pictures look like these cannot be proven without physics states: look at both"
        )
    return said


def _distance(episodes: list[SourceEpisode], env: EnvConfig) -> float:
    if episodes[0].physics is not None:
        drawn = [render_states(env, np.asarray(episode.physics, np.float64)[:1])[0] for episode in episodes]
        return float(np.mean([_apart(episode.image[0], own) for episode, own in zip(episodes, drawn, strict=True)]))
    own = _first_pictures(env)
    return float(np.mean([min(_apart(episode.image[0], picture) for picture in own) for episode in episodes]))


def _first_pictures(env: EnvConfig) -> list[np.ndarray]:
    world = make_env(env, seed=0)
    try:
        return [world.reset()["image"].numpy() for _ in range(STARTS)]
    finally:
        world.close()


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())
