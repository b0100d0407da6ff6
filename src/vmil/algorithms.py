"""From `config.learner` to the class that learns: the one place that imports them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmil.config.schema import Config

if TYPE_CHECKING:
    from vmil.learner.module import ImitationModule


def make_learner(config: Config, action_size: int, proprio_size: int) -> ImitationModule:
    """The learner that `config.learner` names, untrained; imports only that one. proprio_size: 0 without a vector."""
    if config.learner == "vmil":
        from vmil.training.vmil import VMIL

        return VMIL(config, action_size, proprio_size)
    if config.learner == "sqil_drq":
        from vmil.baselines.sqil import SQIL

        return SQIL(config, action_size, proprio_size)
    if config.learner == "dac_drq":
        from vmil.baselines.dac import DAC

        return DAC(config, action_size, proprio_size)
    if config.learner == "bc":
        from vmil.baselines.bc import BC

        return BC(config, action_size, proprio_size)
    raise ValueError(f"unknown learner {config.learner!r}")
