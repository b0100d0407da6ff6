"""What a NaN was found in, kept for inspection: `nonfinite/*.safetensors` in the run's directory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from vmil.config.errors import NonFiniteError, UserError
from vmil.data.episodes import write_atomically

log = logging.getLogger(__name__)

DIRECTORY = "nonfinite"
KEPT = 5  # files of one run: steps that are left out must not fill the disk


def keep_evidence(run_dir: Path, error: NonFiniteError) -> Path | None:
    """Writes the error's evidence, its cause as metadata; None if there is none, or enough, or no place for it."""
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


def report_skip(run_dir: Path, error: NonFiniteError) -> None:
    """Says that a step was left out, and keeps what was in it, a few times only."""
    if not error.evidence:  # judged on a GPU, once a round
        log.warning("%s", error)
        return
    path = keep_evidence(run_dir, error)
    if path is not None:
        log.warning("left out a step: %s; kept as '%s'", error, path)


def _storable(evidence: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value).detach().to("cpu").contiguous().clone() for name, value in evidence.items()}
