"""Checkpoints: complete or absent, never half; the last good one survives whatever happens to the next."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch import callbacks
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vmil.config.runs import CONFIG_FILE, LAST, PREVIOUS
from vmil.config.schema import TrainingConfig
from vmil.data.ranks import gathered
from vmil.errors import EnvError, UserError
from vmil.system.archives import write_archive
from vmil.system.files import sync_directory
from vmil.system.generators import global_states, set_global_states
from vmil.tracking.tracker import Tracker
from vmil.training.interfaces import crossed, data_of

log = logging.getLogger(__name__)


class InPlace(TorchCheckpointIO):
    """Writes checkpoints beside where they go: Lightning's own writer takes the system's temporary directory.

    That one may be small, and a kill would leave a checkpoint there for good.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Whole or not at all; UserError if the disk refuses."""
        write_archive(Path(path), checkpoint)


class Checkpoint(callbacks.Checkpoint):
    """Saves after pre-training, every `checkpoint_every_frames`, at the end, and when the run is asked to stop.

    As a descendant of Lightning's base class it is called after all other callbacks, so that their states are final.
    A stop comes between two updates, and what is saved then resumes in the middle of the round; so does an
    environment's failure. Any other *error* comes anywhere in an update, perhaps with non-finite weights (NaN or inf):
    it leaves the last checkpoint alone.

    Torch's global generators are saved here, since learner and policy draw from them in turn; what else is random
    (environment, replay, demonstrations) has generators of its own.
    """

    def __init__(self, config: TrainingConfig, tracker: Tracker, directory: Path) -> None:
        self.config, self.tracker, self.directory = config, tracker, directory
        self.last_frames = -1  # frames at the last checkpoint
        self.complete = True  # whether the last one asked for was written
        self._training = False
        self._random: dict[str, Any] | list[dict[str, Any]] | None = None

    @property
    def last_path(self) -> Path:
        """What a resumed run starts from."""
        return self.directory / LAST

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Goes on with the checkpoint's random numbers; not earlier, since setting up may draw some."""
        if self._random is not None:
            states = self._random
            set_global_states(states[trainer.global_rank] if isinstance(states, list) else states)
            self._random = None
        self._training = True

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Saves if it is time."""
        frames = data_of(trainer).frames
        at_end = frames >= self.config.frames and self.last_frames < frames
        if self.last_frames < 0 or at_end or crossed(self.last_frames, frames, self.config.checkpoint_every_frames):
            self.save(trainer)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Saves if the run was asked to stop or its environment failed, unless it had not yet restored its state.

        Where others learn too, who do not hear of the failure, nothing is saved then: all would have to.
        """
        failed = isinstance(exception, EnvError) and trainer.world_size == 1
        if (failed or isinstance(exception, SIGTERMException)) and self._training:
            self.save(trainer, stopping=True)

    def state_dict(self) -> dict[str, Any]:
        """When the last checkpoint was made, and the random states now, of every rank if there are several."""
        random = gathered(global_states())
        return {"last_frames": self.last_frames, "random": random[0] if len(random) == 1 else random}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.last_frames, self._random = int(state_dict["last_frames"]), state_dict["random"]

    def save(self, trainer: lightning.Trainer, stopping: bool = False) -> bool:
        """Saves; returns whether that worked. A full disk costs this checkpoint, not the run.

        stopping: whoever asked for it may not wait long, and a slow tracking server must not use that time up. Nor does
        it replace the checkpoint of the round's end, which is still to come, with the updates until then.

        Raises:
            UserError: the run's directory was removed or moved away: nothing that is still to come would be found.
        """
        gone = "" if (self.directory.parent / CONFIG_FILE).is_file() else f"'{self.directory.parent}' was taken away"
        gone = max(gathered(gone), key=len)
        if gone and not stopping:
            raise UserError(f"{gone} while it trained (it has no {CONFIG_FILE}): start again with `make train`")
        before = self.last_frames
        if not stopping:
            self.last_frames = data_of(trainer).frames
        self.complete = False
        self.tracker.flush(wait=not stopping)
        problem = gone
        try:
            if not gone:
                self._write(trainer)
        except (OSError, UserError) as error:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            problem = "the disk is full" if full else str(error) or repr(error)
        problem = max(gathered(problem), key=len)  # all ranks try again, or none does
        if problem:
            self.last_frames = before  # tried again after the next round
            then = "the last one stays" if stopping else "the run goes on"
            log.warning("no checkpoint at %d frames: %s; %s", data_of(trainer).frames, problem, then)
            return False
        self.complete = True
        data_of(trainer).commit()
        log.debug("checkpoint at %d frames", data_of(trainer).frames)
        return True

    def _write(self, trainer: lightning.Trainer) -> None:
        fresh = self.directory / ".next.ckpt"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # The data module's state_dict writes the replay's new episodes, before any checkpoint that names them.
            trainer.save_checkpoint(fresh)
            if trainer.is_global_zero:
                self._publish(fresh)
        except (OSError, UserError):
            if trainer.is_global_zero:
                fresh.unlink(missing_ok=True)
            raise

    def _publish(self, fresh: Path) -> None:
        """Makes `fresh` the last checkpoint and the last one the previous; at every moment there is a last one."""
        if self.last_path.exists():
            spare = self.directory / ".previous.ckpt"
            spare.unlink(missing_ok=True)
            try:
                os.link(self.last_path, spare)
            except OSError:  # a file system without hard links
                shutil.copyfile(self.last_path, spare)
            os.replace(spare, self.directory / PREVIOUS)
        os.replace(fresh, self.last_path)
        sync_directory(self.directory)
