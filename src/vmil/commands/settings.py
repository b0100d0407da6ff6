"""What the subcommands share: OpenGL chosen before anything heavy is imported."""

from __future__ import annotations

from vmil.config.schema import Config


def prepare_opengl(config: Config) -> None:
    """Chooses OpenGL before torchrl is imported: that imports mujoco, where a wrong MUJOCO_GL ends in a traceback."""
    from vmil.envs.rendering import prepare_rendering  # light: numpy only

    prepare_rendering(config.env)
