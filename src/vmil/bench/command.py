"""`vmil bench`: the parts of the table in turn, then the same as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from vmil.bench.floor import measure_floor
from vmil.bench.plan import Plan
from vmil.bench.playing import (
    measure_acting,
    measure_collection,
    measure_environment,
    measure_rendering,
    measure_workers,
)
from vmil.bench.recorded import measure_recorded
from vmil.bench.report import Table, introduction, this_machine, writable, write_json
from vmil.bench.sampling import measure_sampling
from vmil.bench.scaling import measure_scaling
from vmil.bench.updates import Findings, measure_updates
from vmil.bench.whole_process import measure_end_to_end, measure_memory
from vmil.data.demo_files import available_demos
from vmil.envs.factory import env_info
from vmil.errors import UserError
from vmil.system.paths import given_path
from vmil.training.assembly import prepare_torch

SAY = partial(print, flush=True)


def run_bench(plan: Plan, settings: Sequence[str], write: Callable[[str], object] = SAY) -> bool:
    """Measures, prints and writes `out`, line by line: what was measured before the bench is killed is not lost.

    False if our update and the reference's, or the recorded one and the eager one, are not equal.

    Raises UserError if `out` cannot be written, before anything is measured.
    """
    out = writable(given_path("out", plan.options.out))
    prepare_torch(plan.run)
    machine = this_machine(plan.run)
    table = Table(write, keep=lambda table: write_json(out, table, machine, settings, None))
    write(introduction(machine))
    found = _measure(plan, table)
    write_json(out, table, machine, settings, None if found is None else found.equal)
    write(f"\nwritten to {out}")
    return found is None or found.equal


def _measure(plan: Plan, table: Table) -> Findings | None:
    options, run, info = plan.options, plan.run, env_info(plan.run.env)
    sizes, warmup, repeats = (info.action_size, info.proprio_size), options.warmup, options.repeats
    found, sampled = None, list[tuple[int, float]]()
    if plan.has("update"):
        found = measure_updates(table, plan.paper, run, sizes, warmup, repeats)
        found = measure_recorded(table, plan.paper, found, info.action_size, warmup, repeats)
    if plan.has("floor"):
        measured = {} if found is None else found.seconds
        measure_floor(table, plan.paper, info.action_size, measured, repeats)
    if plan.has("memory"):
        measure_memory(table, plan.paper, run, sizes)
    if plan.has("end_to_end"):
        _end_to_end(table, plan)
    if plan.has("acting"):
        measure_acting(table, run, warmup, repeats)
    if plan.has("rendering"):
        measure_rendering(table, run.env, repeats)
    if plan.has("environment"):
        measure_environment(table, run.env, warmup, repeats)
    if plan.has("collection"):
        measure_collection(table, run, warmup, repeats)
    if plan.has("workers"):
        measure_workers(table, run, warmup, repeats)
    if plan.has("sampling"):
        first = next(iter(plan.paper.values()))
        sampled = measure_sampling(table, first, options.buffer_frames, warmup, repeats)
    if plan.smallest is not None:
        measure_scaling(table, *plan.smallest, info.action_size, sampled, warmup, repeats)
    return found


def _end_to_end(table: Table, plan: Plan) -> None:
    """Needs demonstrations to imitate, which not every task has."""
    try:
        available_demos(plan.run.env.name, plan.run.demos)
    except UserError as error:
        table.remark("end_to_end", f"end to end not measured: {error}")
        return
    measure_end_to_end(table, plan.run, plan.options.rounds)
