"""The registry of metrics."""

import math
import re
from pathlib import Path

import pytest

import vmil
from vmil.tracking.metrics import REGISTRY, check, unhealthy


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


def test_every_metric_says_what_it_means_and_its_range_is_ordered() -> None:
    for name, metric in REGISTRY.items():
        assert metric.meaning, name
        low, high = metric.healthy
        assert low is None or high is None or low < high, name


def test_unhealthy_names_what_is_outside_its_range_and_nothing_else() -> None:
    found = unhealthy({"disc/accuracy": 0.9999, "reward/std": 0.0, "disc/policy_prob": 0.4, "model/loss": math.nan})
    assert set(found) == {"disc/accuracy", "reward/std", "model/loss"}
    assert "above 0.995" in found["disc/accuracy"]
    assert "below 1e-06" in found["reward/std"]


def test_a_bound_itself_is_healthy() -> None:
    assert unhealthy({"disc/accuracy": 0.995}) == {}
