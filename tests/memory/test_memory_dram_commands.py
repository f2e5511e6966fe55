"""The reference model issues every command of the golden micro traces in the same cycle."""

from __future__ import annotations

import pytest
from golden_runs import CONFIGURATIONS, channel, stream
from tilewright.targets.memory.dram.device import Channel, Command
from tilewright.targets.memory.dram.reference import Run, simulate
from tilewright.targets.validation.dram import golden

REFRESH_TRACE = "mic_refresh_seqread"  # a window of `seq_R` around the first refresh


def run_trace(of: Channel, name: str, want: list[golden.Issued]) -> Run:
    if name == REFRESH_TRACE:
        return simulate(of, stream("seq_R"), log=(want[0].cycle, want[-1].cycle + 1))
    return simulate(of, golden.micro_bursts(of.name, of)[name], log=(0, 1 << 19))


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_commands_match(configuration: str) -> None:
    of = channel(configuration)
    split = of.activate_window > 0
    for name, want in golden.micro_commands(configuration).items():
        run = run_trace(of, name, want)
        got = [
            golden.Issued(
                c.cycle, golden.command_name(c.command, split), (c.rank, c.bank_group, c.bank), c.row, c.column
            )
            for c in run.commands
        ]
        assert len(got) == len(want), name
        for ours, theirs in zip(got, want, strict=True):
            assert (ours.cycle, ours.place) == (theirs.cycle, theirs.place), f"{name}: {ours}, but {theirs}"
            assert ours.command == ("PRE" if theirs.command == "PREpb" else theirs.command), name
            if ours.command in ("ACT", "ACT1", "ACT2", "RD", "WR"):
                assert (ours.row, ours.column) == (theirs.row, theirs.column), f"{name}: {ours}, but {theirs}"


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_isolated_latencies_match(configuration: str) -> None:
    """One access every 300 cycles: the latency of a read alone is that of the trace without the ones before it."""
    of = channel(configuration)
    bursts = golden.micro_bursts(configuration, of)["iso"]
    want = golden.rows(configuration, "_isolated")
    assert len(want) == len(bursts.block)
    before = 0
    for n, row in enumerate(want, 1):
        run = simulate(of, type(bursts)(*(x[:n] for x in bursts)))
        assert run.read_latency_sum - before == int(row["latency_cycles"]), row["case"]
        before = run.read_latency_sum


def test_counts_are_those_of_the_log() -> None:
    of = channel("r2_LPDDR5_6400_x16_bgint")
    run = simulate(of, golden.micro_bursts(of.name, of)["mic_wr40_rd40_2banks"], log=(0, 1 << 19))
    for command in Command:
        assert run.counts[command] == sum(c.command == command for c in run.commands)
