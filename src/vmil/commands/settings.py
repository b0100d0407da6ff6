"""What the subcommands share: their exit codes, and OpenGL chosen before anything heavy is imported."""

from __future__ import annotations

from vmil.config.schema import Config

OK, FAILED = 0, 1  # exit codes; what else there is, is raised (see cli.py)


def prepare_opengl(config: Config) -> None:
    """Chooses OpenGL before torchrl is imported: that imports mujoco, where a wrong MUJOCO_GL ends in a traceback."""
    from vmil.envs.rendering import prepare_rendering  # light: numpy only

    prepare_rendering(config.env)
