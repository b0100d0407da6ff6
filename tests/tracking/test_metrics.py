"""The registry of metrics."""

import re
from pathlib import Path

import pytest

import vmil
from vmil.tracking.metrics import REGISTRY, check


def test_an_unknown_name_raises_and_names_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"modle/loss.*model/loss"):
        check("modle/loss")


def test_every_name_that_the_sources_log_is_registered() -> None:
    """A name that is not would end a run at its first report."""
    groups = "|".join(sorted({name.split("/")[0] for name in REGISTRY}))
    pictures = {"model/open_loop", "reward/histogram", "eval/episode"}
    for path in Path(vmil.__file__).parent.rglob("*.py"):
        for name in re.findall(rf'"((?:{groups})/\w+)"', path.read_text(encoding="utf-8")):
            assert name in REGISTRY.keys() | pictures, f"{path.name} logs {name}"


def test_every_metric_says_what_it_means_and_its_ranges_are_ordered() -> None:
    for name, metric in REGISTRY.items():
        assert metric.meaning, name
        for low, high in (metric.healthy, *metric.where.values()):
            assert low is None or high is None or low < high, name
