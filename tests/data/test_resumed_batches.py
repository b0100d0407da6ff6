"""Stopped at any batch and resumed: the batches that follow are those that would have."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from counting_run import CountingPolicy, digests, module, same, taken
from lightning.pytorch.callbacks import Callback

from vmil.config.schema import Config
from vmil.data.datamodule import VMILDataModule
from vmil.data.draws import Draws
from vmil.data.transition import Batch
from vmil.errors import UserError

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined"),  # meant: one process loads
]


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4, 5, 6, 8])
def test_stopped_after_any_batch_and_resumed_equals_never_stopped(config: Config, tmp_path: Path, stop: int) -> None:
    """2 batches of pre-training, then 3 an epoch: stops lie at the ends of epochs and within them."""
    whole = module(config)
    wanted = [batch for _ in range(4) for batch in whole.epoch()]
    first = module(config, tmp_path / "replay")
    got = taken(first, stop)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    first.close()
    second = VMILDataModule(config, CountingPolicy(), tmp_path / "replay")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))  # Lightning may ask before setup
    second.setup()
    while len(got) < len(wanted):
        got.extend(second.epoch())
    assert len(got) == len(wanted)
    assert all(same(*pair) for pair in zip(got, wanted, strict=True))
    assert digests(second.replay) == digests(whole.replay)
    assert second.frames == whole.frames
    for data in (whole, second):
        data.close()


def test_resuming_with_other_demonstrations_is_refused(config: Config, tmp_path: Path) -> None:
    data = module(config, tmp_path / "replay")
    state = data.state_dict()
    data.close()
    config.demos.count = 3
    other = module(config, tmp_path / "replay")
    with pytest.raises(UserError, match="the demonstrations are not those"):
        other.load_state_dict(state)
    other.close()
    config.demos.count = 2
    nowhere = module(config)
    with pytest.raises(UserError, match="without its replay directory"):
        nowhere.load_state_dict(state)
    nowhere.close()


class Recorder(lightning.LightningModule):
    """Trains nothing and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.given: list[tuple[int, Batch]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.given.append((self.current_epoch, batch))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(self.parameters())]


class StopAfter(Callback):
    """Saves after that many batches, or at that epoch's end, and stops with an exception."""

    def __init__(self, path: Path, batches: int | None = None, epochs: int | None = None) -> None:
        self.path, self.batches, self.epochs = path, batches, epochs

    def on_train_batch_end(self, trainer: Any, pl_module: Recorder, *args: Any) -> None:
        if len(pl_module.given) == self.batches:
            self.stop(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Recorder) -> None:
        if trainer.current_epoch + 1 == self.epochs:
            self.stop(trainer)

    def stop(self, trainer: lightning.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        raise RuntimeError("stopped")


def fit(config: Config, tmp_path: Path, *callbacks: Callback, ckpt: Path | None = None) -> Recorder:
    data, recorder = VMILDataModule(config, CountingPolicy(), tmp_path / "replay"), Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=data.pace.epochs,
        callbacks=list(callbacks),
        reload_dataloaders_every_n_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.fit(recorder, datamodule=data, ckpt_path=ckpt, weights_only=True)
    except RuntimeError as error:
        assert str(error) == "stopped"  # noqa: PT017
    assert data.collector._collector.closed  # after teardown as after an exception
    return recorder


@pytest.mark.parametrize("pretrain", [0, 2, 5])
def test_lightning_gives_each_epoch_its_batches(config: Config, tmp_path: Path, pretrain: int) -> None:
    config.training.pretrain_updates = pretrain
    epochs = [epoch for epoch, _ in fit(config, tmp_path).given]
    lengths = [pretrain] * (pretrain > 0) + [3] * 5
    assert epochs == [epoch for epoch, length in enumerate(lengths) for _ in range(length)]


@pytest.mark.parametrize("stop", [{"epochs": 1}, {"epochs": 3}, {"batches": 1}, {"batches": 4}, {"batches": 7}])
@pytest.mark.parametrize("pretrain", [2, 5])
def test_lightning_resumes_exactly(config: Config, tmp_path: Path, pretrain: int, stop: dict[str, int]) -> None:
    config.training.pretrain_updates = pretrain
    whole = fit(config, tmp_path / "whole").given
    first = fit(config, tmp_path, StopAfter(tmp_path / "last.ckpt", **stop)).given
    second = fit(config, tmp_path, ckpt=tmp_path / "last.ckpt").given
    assert 0 < len(first) < len(whole)
    assert [epoch for epoch, _ in first + second] == [epoch for epoch, _ in whole]
    assert all(same(one, other) for (_, one), (_, other) in zip(first + second, whole, strict=True))


@pytest.mark.parametrize("stop", [{"epochs": 2}, {"batches": 1}, {"batches": 4}])
def test_lightning_resumes_exactly_where_batches_are_drawn_ahead(
    config: Config, tmp_path: Path, stop: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(config, tmp_path / "whole").given
    monkeypatch.setattr("vmil.data.datamodule.make_draws", partial(Draws, pinned=False, ahead=True))  # as for a GPU
    first = fit(config, tmp_path, StopAfter(tmp_path / "last.ckpt", **stop)).given
    second = fit(config, tmp_path, ckpt=tmp_path / "last.ckpt").given
    assert 0 < len(first) < len(whole)
    assert all(same(one, other) for (_, one), (_, other) in zip(first + second, whole, strict=True))
