"""What a NaN or inf was found in, kept for inspection: `nonfinite/*.safetensors` in the run's directory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from vmil.errors import NonFiniteError, UserError
from vmil.learner.nonfinite import Skip
from vmil.system.files import write_atomically

log = logging.getLogger(__name__)

DIRECTORY = "nonfinite"
KEPT = 5  # files of one run: steps that are left out must not fill the disk


def keep_evidence(run_dir: Path, error: NonFiniteError) -> Path | None:
    """Writes the error's evidence, its cause as metadata; None if there is none, enough already, or no place for it."""
    tensors = _storable(error.evidence)
    directory = run_dir / DIRECTORY
    number = len(list(directory.glob("*.safetensors")))
    if not tensors or number >= KEPT:
        return None
    path = directory / f"{number:02d}.safetensors"
    try:
        write_atomically(path, save(tensors, metadata={"cause": str(error)}))
    except UserError as refused:
        log.warning("the batch is not kept: %s", refused)
        return None
    return path


class SkipReport:
    """Says that steps were left out, and keeps the batch of an update that lost some, a few times only.

    Of steps that are reported one by one it logs those whose batch is kept, and each that makes their number a power
    of two; always with the total so far.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._update = -1  # the last one of which a step was reported

    def __call__(self, skip: Skip) -> None:
        """Called for every step or, where they are judged on a GPU, once a round for all steps of a loss."""
        if not skip.error.evidence:
            log.warning("%s; %d in all", skip.error, skip.total)
            return
        known, self._update = skip.update == self._update, skip.update
        path = None if known else keep_evidence(self.run_dir, skip.error)
        if path is not None or skip.total.bit_count() == 1:
            kept = "" if path is None else f"; kept as '{path}'"
            log.warning("left out a step: %s%s; %d in all", skip.error, kept, skip.total)


def _storable(evidence: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value).detach().to("cpu").contiguous().clone() for name, value in evidence.items()}
