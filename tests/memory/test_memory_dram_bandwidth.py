"""The reference model against the golden runs: cycles, commands and latencies of whole patterns."""

from __future__ import annotations

import csv
from statistics import median

import pytest
from golden_runs import CONFIGURATIONS, PATTERNS, Row, channel, rows, stream
from tilewright.targets.memory.dram.device import Command
from tilewright.targets.memory.dram.reference import Run, simulate
from tilewright.targets.validation.dram import golden

QUICK = ("stride_R_4096", "stride_W_256", "rand_A_64", "tile_R_128_57344", "paced_rand_R_8")


def run_row(row: Row) -> Run:
    return simulate(row.channel, stream(row.pattern.name))


def same(run: Run, row: Row) -> bool:
    """Whether everything until the last burst is the same. Precharges may follow it: of a refresh in the idle tail."""
    counts = {Command.ACT: "activates", Command.RD: "rd_cmds", Command.WR: "wr_cmds"}
    latency = abs(run.read_latency - float(row.values["avg_read_latency_cycles"])) < 1e-3
    return run.cycles == row.cycles and latency and all(run.counts[c] == int(row.values[k]) for c, k in counts.items())


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_patterns_match(configuration: str) -> None:
    chosen = [r for r in rows(configuration) if r.pattern.name in QUICK]
    assert chosen
    for row in chosen:
        run = run_row(row)
        assert same(run, row), f"{row.refresh} {row.pattern.name}: {run}"
        assert run.bytes_per_s / 1e9 == pytest.approx(float(row.values["bandwidth_GBps"]), rel=1e-3)
        assert run.read_latency_max == int(row.values["max_read_latency"])
        assert run.reads == 0 or run.read_latency_min == int(row.values["min_read_latency"])


@pytest.mark.slow
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_pattern_is_within_the_bars(configuration: str) -> None:
    """Bandwidth within 3 % median and 10 % worst on reads and on writes, 8 % median on both; the latter by kind."""
    errors: dict[str, list[float]] = {}
    exact = 0
    for row in rows(configuration):
        run = run_row(row)
        exact += same(run, row)
        error = abs(run.bytes_per_s / 1e9 / float(row.values["bandwidth_GBps"]) - 1)
        errors.setdefault(row.pattern.kind, []).append(error)
    print(f"{configuration}: {exact} of {len(rows(configuration))} rows exact")
    assert exact == len(rows(configuration))
    for kind in ("read", "write"):
        assert median(errors[kind]) <= 0.03 and max(errors[kind]) <= 0.10, kind
    assert median(errors["mixed"]) <= 0.08


def check_queue_row(row: dict[str, str]) -> None:
    of = channel(row["config"], row["refresh"]).with_queues(int(row["queue_size"]))
    run = simulate(of, stream(row["pattern_id"]))
    got = (run.cycles, run.counts[Command.RD], run.counts[Command.WR], run.counts[Command.ACT])
    want = tuple(int(row[k]) for k in ("total_cycles", "rd_cmds", "wr_cmds", "activates"))
    assert got == want, row
    assert run.read_latency == pytest.approx(float(row["avg_read_latency_cycles"]), abs=1e-3)


def queue_rows() -> list[dict[str, str]]:
    with (golden.DATA / "queue_depth_sensitivity.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_queue_depths_match() -> None:
    chosen = [r for r in queue_rows() if r["pattern_id"] in ("rand_A_256", "tile_R_128_14336")]
    assert {r["queue_size"] for r in chosen} == {"8", "16", "32", "64", "128"}
    for row in chosen:
        check_queue_row(row)


@pytest.mark.slow
def test_every_queue_depth_matches() -> None:
    for row in queue_rows():
        check_queue_row(row)


def test_every_pattern_has_its_hash() -> None:
    """Raises if a regenerated pattern is not the one that was run."""
    for name, pattern in PATTERNS.items():
        assert pattern.sha256 and len(stream(name)) == pattern.lines
