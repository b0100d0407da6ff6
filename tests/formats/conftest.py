"""What the tests of formats share: a counting run's configuration, and one import with its words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmil.config.load import load_config
from vmil.config.schema import Config
from vmil.config.schema_cli import ImportOptions
from vmil.data.recording import Recording, read_recording
from vmil.exchange.import_demos import import_demos

Imported = tuple[list[Recording], str]


@pytest.fixture
def counting() -> Config:
    """A counting run of 64 x 64 pixels, an action per frame."""
    config = load_config(["env=counting"])
    config.training.batch_length = 6
    return config


@pytest.fixture
def bring(counting: Config, tmp_path: Path) -> Callable[..., Imported]:
    """Imports a source and reads what came of it: the demonstrations, and what was said."""
    made: list[int] = []

    def run(source: object, config: Config = counting, **options: Any) -> Imported:
        made.append(1)
        said: list[str] = []
        out = tmp_path / f"imported-{len(made)}"
        paths = import_demos(ImportOptions(src=str(source), out=str(out), **options), config, said.append)
        return [read_recording(path) for path in paths], "\n".join(said)

    return run
