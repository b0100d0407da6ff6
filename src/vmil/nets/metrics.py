"""What a loss function returns beside the loss."""

from __future__ import annotations

from torch import Tensor

Metrics = dict[str, Tensor]  # scalars by the names of `tracking/metrics.py`
