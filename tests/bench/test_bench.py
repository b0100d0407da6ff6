"""The benchmark on toy sizes: its structure, its reference, its arithmetic, its complaints. Nothing here is timed."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from pool_here import Here
from torch import nn

from vmil import cli
from vmil.bench import updates
from vmil.bench.child_process import in_own_process
from vmil.bench.clock import alternate
from vmil.bench.command import run_bench
from vmil.bench.equality import Difference, compare, in_reference_layout, make_reference
from vmil.bench.floor import FlopCount, count_flops, matrix_rate
from vmil.bench.loose_learner import LooseLearner, noise_batch
from vmil.bench.plan import PARTS, Plan, make_plan, paper_config
from vmil.bench.report import Table
from vmil.bench.sampling import measure_sampling
from vmil.bench.scaling import Growth, statement
from vmil.bench.updates import comparable, differences
from vmil.bench.whole_process import Peak, Throughput, measure_end_to_end, peak_memory, train_rounds, update_peak
from vmil.config.keys import leaves
from vmil.config.schema import Config, WorldModelConfig
from vmil.config.schema_cli import BenchOptions
from vmil.errors import UserError

CPU, A = torch.device("cpu"), 3
TOY = ["env=counting", "compute=debug"]
INSIDE = [part for part in PARTS if part not in ("memory", "end_to_end")]  # needs no process of its own
STAGES = {"model", "dream", "discriminator", "behaviour", "optimiser"}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def _memory_as_it_was() -> Iterator[None]:
    """The command tunes the allocator of its process, for good: not of this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vmil.training.assembly.keep_memory", lambda: None)
        patch.setattr("vmil.bench.floor.SIDES", (32, 64))
        patch.setattr("vmil.data.parallel.WorkerPool", Here)
        yield


@pytest.fixture
def config() -> Config:
    return paper_config(TOY, (4, 5), "compute.precision=fp32")


# ---- the reference -----------------------------------------------------------------------------------------------


def test_ours_and_the_reference_compute_the_same(config: Config) -> None:
    found = differences(config, A)
    assert all(difference.ok for difference in found), updates.verdict(found)
    names = {difference.name for difference in found}
    assert {"model/loss", "model/kl", "disc/loss", "disc/penalty", "actor/loss", "critic/loss"} <= names
    assert {"model/grad_norm", "disc/grad_norm", "actor/grad_norm", "critic/grad_norm"} <= names
    for part in ("encoder", "inputs", "cell", "prior", "posterior", "project", "decoder"):
        assert any(name.startswith(f"gradient of model.{part}.") for name in names)


def test_they_are_the_same_where_episodes_begin_and_after_a_step(config: Config) -> None:
    torch.manual_seed(1)
    learner, batch = LooseLearner(config, A), noise_batch(config, A, 0, CPU)
    batch.is_first[0, 1] = batch.is_first[2, 0] = batch.is_first[3, 3] = True
    reference = make_reference(learner)
    for seed in range(3):
        assert all(difference.ok for difference in compare(learner, reference, batch, seed))


def test_every_weight_has_a_gradient_to_compare(config: Config) -> None:
    learner, batch = updates.comparable(config, A)
    reference = make_reference(learner)
    reference.update(batch)
    names = dict(reference.named_parameters())
    assert names.keys() == in_reference_layout(learner, lambda weight: weight).keys()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in names.values())
    numbers = sum(
        p.numel() for part in ("world_model", "discriminator", "actor", "critic") for p in _part(learner, part)
    )
    assert sum(weight.numel() for weight in names.values()) == numbers


def _part(learner: LooseLearner, name: str) -> Any:
    return getattr(learner, name).parameters()


def tampered(config: Config, action: int, tamper: Callable[[LooseLearner], object]) -> list[Difference]:
    """As `differences`, of a learner that is changed once the reference has its weights."""
    learner, batch = comparable(config, action)
    reference = make_reference(learner)
    tamper(learner)
    return compare(learner, reference, batch, config.seed)


@pytest.mark.parametrize(
    "name",
    [
        "world_model.encoder.layers.0.bias",
        "world_model.rssm.from_embedding.weight",
        "world_model.rssm.prior_head.1.weight",
        "world_model.decoder.first.weight",
        "world_model.decoder.rest.5.bias",
        "discriminator.net.0.0.weight",
        "actor.net.1.bias",
        "critic.net.0.0.bias",
    ],
)
def test_one_number_off_is_noticed(config: Config, name: str) -> None:
    def tamper(learner: LooseLearner) -> None:
        with torch.no_grad():
            learner.get_parameter(name).view(-1)[0] += 0.05

    found = tampered(config, A, tamper)
    assert not all(difference.ok for difference in found)
    assert updates.verdict(found).startswith("NOT EQUAL")


def test_a_nan_is_no_equality(config: Config) -> None:
    def tamper(learner: LooseLearner) -> None:
        learner.critic.register_forward_hook(lambda module, inputs, value: value * float("nan"))
        learner.guard.skip = True

    found = tampered(config, A, tamper)
    assert not all(difference.ok for difference in found)
    assert "nan" in updates.verdict(found)


def test_the_papers_sizes_are_the_schemas() -> None:
    plan = make_plan(["env=counting", "compute=cpu"])
    assert list(plan.paper) == ["16x50"]
    paper = plan.paper["16x50"]
    assert paper.world_model == WorldModelConfig()
    assert (paper.behaviour.actor_layers, paper.behaviour.actor_units, paper.behaviour.dream_starts) == (4, 400, 0)
    assert (plan.run.algo, plan.run.world_model.depth, plan.parts) == ("vmil_plus", 16, PARTS)
    assert list(make_plan(["env=counting", "compute=gpu"]).paper) == ["16x50", "16x64", "50x50", "128x50"]


def test_batches_that_nobody_asked_for_are_no_longer_than_an_episode() -> None:
    plan = make_plan(["env=dot", "compute=cpu"])
    assert list(plan.paper) == ["16x20"]
    assert plan.smallest is not None
    assert plan.smallest[1] == (8, 20)
    assert make_plan(["env=dot", "compute=cpu", "parts=update"]).smallest is None


# ---- clock, floor, growth ----------------------------------------------------------------------------------------


def test_works_take_turns_and_the_first_turns_do_not_count() -> None:
    called: list[str] = []
    works = {name: lambda name=name: called.append(name) for name in ("ours", "theirs")}
    times = alternate(works, CPU, warmup=2, repeats=3)
    assert called == ["ours", "theirs"] * 5
    assert {name: len(value.seconds) for name, value in times.items()} == {"ours": 3, "theirs": 3}


def test_the_learner_times_its_stages_and_its_optimisers(config: Config) -> None:
    learner, batch = updates.prepared(config, A, 0)
    found = updates.measure(learner, batch, warmup=1, repeats=2, against=True)
    assert set(found.stages) == STAGES
    assert found.reference is not None
    assert all(len(times.seconds) == 2 for times in (found.whole, found.reference, *found.stages.values()))
    learner.training_step(batch, 0)
    assert learner.stopwatch.counts["optimiser"] == 3


def test_flops_are_counted_by_hand_s_formula() -> None:
    with FlopCount() as counter:
        torch.randn(2, 3) @ torch.randn(3, 5)
        torch.nn.functional.conv2d(torch.randn(1, 2, 4, 4), torch.randn(6, 2, 3, 3))
    assert sorted(counter.counts.values()) == [2 * 2 * 3 * 5, 2 * (2 * 2) * 6 * (2 * 3 * 3)]


def test_twice_the_sequences_are_twice_the_convolutions(config: Config) -> None:
    one = count_flops(config, A)
    two = count_flops(replace(config, training=replace(config.training, batch_size=8)), A)
    assert two.convolutions == 2 * one.convolutions > 0
    assert one.rest < two.rest <= 2 * one.rest
    assert matrix_rate(torch.float32, CPU, 2) > 0


def test_growth_is_the_power_of_the_size() -> None:
    sizes = (1.0, 2.0, 4.0)
    linear, square = Growth("a", sizes, (3.0, 6.0, 12.0)), Growth("b", sizes, (1.0, 4.0, 16.0))
    assert linear.power == pytest.approx(1.0)
    assert square.power == pytest.approx(2.0)
    assert statement([linear]) == "nothing grows worse than linearly: every power is at most 1.00"
    assert statement([linear, square]) == "grows worse than linearly: b (power 2.00)"


# ---- a process of its own ----------------------------------------------------------------------------------------


def test_another_process_answers_and_complains() -> None:
    plan = in_own_process(make_plan, [*TOY, "parts=update"])
    assert isinstance(plan, Plan)
    assert plan.parts == ("update",)
    with pytest.raises(UserError, match="repeats=0"):
        in_own_process(make_plan, [*TOY, "repeats=0"])


def test_the_peak_of_memory_holds_what_was_held_once(config: Config) -> None:
    held = np.ones(2**23)  # 64 MiB
    now, peak = psutil.Process().memory_info().rss, peak_memory()
    assert now > held.nbytes
    assert peak >= 0.99 * now  # the kernel counts in batches of pages
    del held
    found = update_peak(config, A, 0)
    assert found.process >= 0.99 * peak  # it never falls
    assert found.gpu is None


@pytest.fixture
def demos(tmp_path: Path) -> list[str]:
    """Two counting demonstrations."""
    directory = tmp_path / "demos"
    directory.mkdir()
    meta = {"format": 1, "env": "counting", "domain": "counting", "task": "counting", "action_repeat": 1}
    for index in range(2):
        np.savez_compressed(
            directory / f"demo_{index:02d}.npz",
            physics=np.array([[index, t] for t in range(13)], np.float64),
            action=np.zeros((12, 1), np.float32),
            reward=np.zeros(12, np.float32),
            meta=np.array(json.dumps(meta)),
        )
    return [f"demos.path={directory}", f"demos.cache_dir={tmp_path}/cache"]


def test_whole_rounds_have_a_pace(demos: list[str]) -> None:
    pace = train_rounds(make_plan([*TOY, *demos]).run, rounds=2)
    assert len(pace.frames) == len(pace.updates) == 2
    assert all(rate > 0 for rate in (*pace.frames, *pace.updates, pace.peak.process))


def test_drawing_is_measured_where_a_run_would_keep_its_replay(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmil.bench.sampling.replay_device", lambda *_: CPU)
    table = Table(lambda _: None)
    measure_sampling(table, config, frames=1000, warmup=0, repeats=1)
    assert {row.note for row in table.rows} == {"on cpu", "on cpu, pixels as bytes"}


# ---- the command -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One benchmark of toy sizes, with all parts that need no process of their own."""
    out, lines = tmp_path_factory.mktemp("bench") / "new" / "bench.json", list[str]()
    settings = [*TOY, "batches=4x5,2x6", "repeats=2", "warmup=1", "buffer_frames=1000", "scaling=2x3", f"out={out}"]
    settings.append(f"parts={','.join(INSIDE)}")

    done = run_bench(make_plan(settings), settings, lines.append)
    return SimpleNamespace(done=done, content=json.loads(out.read_text()), lines=lines, settings=settings)


def test_the_command_measures_every_part(whole: SimpleNamespace) -> None:
    assert whole.done
    rows = whole.content["rows"]
    assert list(dict.fromkeys(row["part"] for row in rows)) == INSIDE
    updates_of = {row["what"] for row in rows if row["part"] == "update"}
    for batch in ("4x5", "2x6"):
        assert {f"{batch}: {what}" for what in (*STAGES, "whole update", "reference / ours")} <= updates_of
    assert "vmil_plus 4x8: whole update" in updates_of
    drawn = [row["what"] for row in rows if row["part"] == "sampling"]
    assert drawn[-2:] == ["4x5 of 960 frames", "replay of 960 frames"]
    powers = {row["what"] for row in rows if row["what"].startswith("power")}
    assert len(powers) == 5
    grown = {row["what"]: row["value"] for row in rows if row["part"] == "scaling"}
    assert grown["update, sequences 2"] == grown["update, agent steps 3"]  # one size, measured once


def test_the_json_is_of_its_format(whole: SimpleNamespace) -> None:
    content = whole.content
    assert set(content) == {"format", "vmil", "commit", "machine", "settings", "equal", "remarks", "rows"}
    assert (content["format"], content["equal"], content["settings"]) == (1, True, whole.settings)
    assert {"processor", "cores", "gpu", "threads", "torch", "load", "convolutions"} <= set(content["machine"])
    for row in content["rows"]:
        assert set(row) == {"part", "what", "value", "unit", "low", "high", "repeats", "note"}
        assert np.isfinite(row["value"])
        assert row["low"] is None or row["low"] <= row["value"] <= row["high"]
        assert row["repeats"] >= 1
    ratios = [row for row in content["rows"] if row["what"].endswith("reference / ours")]
    assert len(ratios) == 2
    assert all(row["unit"] == "x" and row["value"] > 0 for row in ratios)
    assert {"equality 4x5", "equality 2x6", "scaling", "image size"} == set(content["remarks"])


def test_the_table_shows_every_row_once(whole: SimpleNamespace) -> None:
    for row in whole.content["rows"]:
        assert sum(line.startswith(f"  {row['what']:<44} ") for line in whole.lines) >= 1, row["what"]
    assert whole.lines[-1].startswith("\nwritten to ")
    assert "\nend to end" not in whole.lines


def test_the_command_fails_where_the_two_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def tamper(learner: LooseLearner) -> None:
        nn.init.zeros_(learner.critic.net.head.weight)

    monkeypatch.setattr(updates, "differences", lambda config, action: tampered(config, action, tamper))
    out = tmp_path / "bench.json"
    settings = [*TOY, "batches=2x3", "repeats=1", "warmup=0", "parts=update", f"out={out}"]
    assert cli.main(["bench", *settings]) == 1
    assert json.loads(out.read_text())["equal"] is False
    assert "NOT EQUAL" in capsys.readouterr().out


def test_playing_beside_the_learner_is_compared_with_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_apart(work: object, config: Config, rounds: int) -> Throughput:
        rates = (30.0, 33.0, 36.0) if config.collector.overlap else (20.0, 22.0, 24.0)
        return Throughput(rates, rates, Peak(10**9, None))

    monkeypatch.setattr("vmil.bench.whole_process.in_own_process", run_apart)
    workers = ["collector.backend=process", "collector.workers=2", "training.frames_per_epoch=2000"]
    run = make_plan(["algo=vmil_plus", "env=walker", *workers, "collector.overlap=true"]).run
    table = Table(lambda text: None)
    measure_end_to_end(table, run, rounds=3)
    rates = {row.what: (row.value, row.note) for row in table.rows if row.unit == "1/s"}
    assert rates["vmil_plus, overlapping: frames"] == (33.0, "rounds of 2,000 frames and 120 updates")
    assert rates["vmil_plus, by turns: frames"] == (22.0, "overlapping is 1.50 times as fast")


def test_without_demonstrations_the_end_is_left_out(tmp_path: Path, capsys: Any) -> None:
    settings = ["env=counting", "compute=debug", "parts=end_to_end", f"out={tmp_path}/bench.json"]
    assert cli.main(["bench", *settings]) == 0
    assert "end to end not measured: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["batches=16y50"], "batches=16y50 is not of the form 16x50,50x50"),
        (["batches=0x50"], "batches=0x50 is not of the form"),
        (["batches=16x5000"], "a batch of 16x5000: training.batch_length=5000 is longer than an episode"),
        (["scaling=2x4,4x4"], "scaling=2x4,4x4 must be one batch"),
        (["parts=update,sampel"], "unknown part 'sampel'"),
        (["repeats=0"], "repeats=0 is outside [1, inf)"),
        (["warmup=-1"], "warmup=-1 is outside [0, inf)"),
        (["repeats=many"], "repeats=many is not an integer"),
        (["buffer_frames=0"], "buffer_frames=0 is outside"),
        (["rounds=0"], "rounds=0 is outside"),
        (["algo=bc"], "algo=bc has no model to measure"),
        (["bathces=16x50"], "unknown key 'bathces'; did you mean 'batches'?"),
        (["world_model.latent=categorical"], "unknown key 'world_model.latent'"),
        (["training.batch_size=3"], "unknown key 'training.batch_size'"),
        (["out=."], "out=. is a directory: name a file"),
        (["out=pyproject.toml/bench.json"], "out=pyproject.toml/bench.json cannot be written"),
        (["parts=update", "batches"], "'batches' is not of the form key=value"),
    ],
)
def test_misuse_is_one_sentence(settings: list[str], sentence: str, capsys: Any) -> None:
    assert cli.main(["bench", *TOY, *settings]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("vmil: ")
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_no_option_is_dead() -> None:
    read = set()
    for path in Path(updates.__file__).parent.glob("*.py"):
        read |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert set(leaves(BenchOptions)) <= read


def test_what_was_measured_before_a_bench_is_stopped_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        content = json.loads((tmp_path / "bench.json").read_text())
        assert content["rows"][-1]["what"].endswith(": whole update")
        assert content["equal"] is None
        raise KeyboardInterrupt

    monkeypatch.setattr("vmil.bench.command.measure_floor", stopped)
    settings = [*TOY, "batches=2x3", "repeats=1", "warmup=0", "parts=update,floor", f"out={tmp_path / 'bench.json'}"]
    with pytest.raises(KeyboardInterrupt):
        run_bench(make_plan(settings), settings, lambda line: None)
