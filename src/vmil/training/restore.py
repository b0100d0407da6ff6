"""Going on from a checkpoint: read without executing anything, and tried on before the run is touched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vmil.config.runs import PREVIOUS
from vmil.data.datamodule import VMILDataModule
from vmil.data.ranks import every_state
from vmil.errors import UserError
from vmil.learner.module import ImitationModule
from vmil.system.archives import read_archive


def read_checkpoint(path: Path, learner: ImitationModule) -> dict[str, Any]:
    """The checkpoint's content, without executing anything in it, checked against the networks it is meant for.

    Raises:
        UserError: unreadable, or of another architecture.
    """
    try:
        content = read_archive(path)
        check_architecture(f"the checkpoint '{path}'", content["state_dict"], learner.state_dict())
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint '{path}' yet") from error
    except (ValueError, KeyError, AttributeError) as error:
        raise _damaged(path) from error
    return content


def check_architecture(what: str, stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """UserError unless `what` stores weights of the wanted names and shapes."""
    there, here = ({name: tuple(weight.shape) for name, weight in side.items()} for side in (stored, wanted))
    if there != here:
        name = sorted(set(there.items()) ^ set(here.items()), key=str)[0][0]
        raise UserError(
            f"{what} is of another architecture: '{name}' is {there.get(name, 'absent')} there "
            f"and {here.get(name, 'absent')} in this configuration"
        )


def frames_in(path: Path, content: dict[str, Any]) -> int:
    """Environment frames that the run of a checkpoint, read from `path`, had collected: those of all its ranks.

    Raises:
        UserError: damaged.
    """
    try:
        return int(every_state(content[VMILDataModule.__qualname__])[0]["frames"])  # each counts them all
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path) from error


def try_on(path: Path, content: dict[str, Any], learner: ImitationModule, data: VMILDataModule) -> None:
    """Restores the data from the content of the checkpoint at `path`, and checks that learner and optimisers fit it.

    Before the tracker takes the run up again: what cannot go on must not be marked as failed.

    Raises:
        UserError: damaged, of other demonstrations, its replay is not there, or its budget is spent.
    """
    try:
        data.restore(content[type(data).__qualname__])
        budget = data.config.training.frames
        if data.pace.overdrawn:
            raise UserError(f"training.frames={budget}: the run has collected {data.frames:,} already")
        fresh = learner.configure_optimizers()
        for optimizer, state in zip(fresh, content["optimizer_states"], strict=True):
            optimizer.load_state_dict(state)
        learner.on_load_checkpoint(content)
        for section in ("loops", "callbacks"):
            if not isinstance(content[section], dict):
                raise TypeError(f"{section} is no dict")
    except UserError:
        raise
    except Exception as error:  # hostile content can raise anything
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    spare = path.with_name(PREVIOUS)
    advice = f"; '{PREVIOUS}' beside it, copied over it, is the one before" if spare.is_file() else ""
    return UserError(f"the checkpoint '{path}' is damaged, or not a checkpoint of vmil{advice}")
