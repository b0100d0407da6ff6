"""The expert of baoding that plans."""

from __future__ import annotations

import json
from typing import ClassVar

from vmil.experts.expert import Kind
from vmil.experts.hand_expert import HandExpert
from vmil.system.provenance import digest, sha256


class PlannedExpert(HandExpert):
    """MPPI, through the simulator or a learned ensemble."""

    kind: ClassVar[Kind] = "planned"

    def identity(self) -> str:
        """Of the settings and the ensemble's weights."""
        return digest(json.dumps(self.settings, sort_keys=True), *map(sha256, self.weights))

    def what(self) -> str:
        """As `HandExpert`."""
        through = "a learned ensemble" if self.settings.get("dynamics") == "learned" else "MuJoCo"
        return f"MPPI (`vmil.experts.mppi`) through {through}"

    def _about_noise(self) -> str:
        return " The noise of the planner derives from the demonstration's seed."
