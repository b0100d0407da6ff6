"""Results as the figures take them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from drawn import make_run

from vmil.analysis.references import Reference
from vmil.analysis.results import Results


@pytest.fixture
def results() -> Results:
    runs = [make_run("walker", "vmil", "base", seed, "eval/return", 100 + seed, 500 + 2 * seed) for seed in (0, 1)]
    runs += [make_run("walker", "vmil", "demos1", 0, "eval/return", 50, 60, demos=1)]
    runs += [make_run("walker", "vmil", "noise-none", 0, "eval/return", 80, 90)]
    runs += [make_run("sawyer", "vmil", "base", 0, "eval/success", 0.2, 0.6)]
    known = Reference("Others (from scratch)", "walker", (10_000, 90_000), (10.0, 800.0), "none")
    return Results(tuple(runs), (known, replace(known, method="The paper", env="sawyer", frames=(), mean=(50.0,))))
