"""The cost report as tables for people. A column of times or shares adds up to its last line, as printed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .model import CostReport, OpCost, exposed_ps
from .units import format_bytes, format_ps, share, share_column, time_column

Row = tuple[str, int, tuple[str, ...]]  # name, time in ps, cells after the share

OPS_SHOWN = 10
REASONS_SHOWN = 8
NO_TASK = "launches, no task"


def print_report(report: CostReport, console: Console) -> None:
    """Prints latency, traffic, engines, what bounds the program, the costliest ops, and what was handed over."""
    console.print(_summary(report))
    console.print(_engines(report))
    console.print(_bounds(report))
    console.print(_ops(report))
    if report.handed:
        console.print(_handed(report))


def make_table(*columns: str) -> Table:
    """A plain table; a column whose name starts with '>' is set to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left")
    return table


def _summary(report: CostReport) -> Text:
    seconds = report.latency_ps / 1e12 or 1.0
    moved = report.dram_bytes.read + report.dram_bytes.write
    return Text.assemble(
        (f"{report.model} on {report.target}", "bold"),
        f" ({report.fidelity}): ",
        (format_ps(report.latency_ps), "bold green"),
        f", {report.macs / 1e9:.3f} GMAC at {report.macs / seconds / 1e12:.2f} TMAC/s\n",
        f"DRAM: {format_bytes(report.dram_bytes.read)} read, {format_bytes(report.dram_bytes.write)} written, ",
        f"{moved / seconds / 1e9:.1f} GB/s on average\n",
    )


def _engines(report: CostReport) -> Table:
    table = make_table("engine", ">has a task", "its units work (share of the latency)")
    for name, use in report.engines.items():
        units = "  ".join(f"{unit} {share(busy, report.latency_ps)}" for unit, busy in use.units.items())
        table.add_row(name, share(use.busy_ps, report.latency_ps), units)
    table.add_row()
    return table


def _bounds(report: CostReport) -> Table:
    """Where the latency goes, by engine and by what holds it back."""
    by_cause: dict[str, int] = defaultdict(int)
    for op, exposed in zip(report.ops, exposed_ps(report), strict=True):
        for cause, ps in _scaled(op.breakdown, exposed).items():
            by_cause[f"{op.engine} {cause}"] += ps
    rows = [item for item in sorted(by_cause.items(), key=lambda item: (-item[1], item[0])) if item[1]]
    rows.append((NO_TASK, report.idle_ps))
    table = make_table("bound by", ">time", ">share")
    _add_rows(table, [(name, ps, ()) for name, ps in rows])
    return table


def _scaled(breakdown: dict[str, int], exposed: int) -> dict[str, int]:
    """The breakdown of a span, scaled to the part of it that no other op hides. The rest goes to the largest."""
    span = sum(breakdown.values())
    parts = {cause: ps * exposed // span for cause, ps in breakdown.items()}
    largest = max(breakdown, key=lambda cause: breakdown[cause], default="idle")
    return {**parts, largest: parts.get(largest, 0) + exposed - sum(parts.values())}


def _ops(report: CostReport) -> Table:
    """The costliest ops, the others in one line, and the time in which no op ran."""
    costs = sorted(zip(exposed_ps(report), report.ops, strict=True), key=lambda pair: (-pair[0], pair[1].id))
    top, rest = costs[:OPS_SHOWN], costs[OPS_SHOWN:]
    table = make_table("op", ">time", ">share", ">GMAC", ">moved", "on", "bound by", "module", "source")
    rows: list[Row] = [(op.name, ps, (*_work([op]), op.engine, op.bound, op.module, op.source)) for ps, op in top]
    if rest:
        others = "1 other" if len(rest) == 1 else f"{len(rest)} others"
        rows.append((others, sum(ps for ps, _ in rest), _work([op for _, op in rest])))
    rows.append((NO_TASK, report.idle_ps, ()))
    _add_rows(table, rows, _work(report.ops))
    return table


def _work(ops: Sequence[OpCost]) -> tuple[str, ...]:
    return f"{sum(op.macs for op in ops) / 1e9:.3f}", format_bytes(sum(op.bytes for op in ops))


def _handed(report: CostReport) -> Table:
    """Work that went to another engine than the first one asked for, by reason."""
    by_reason: dict[tuple[str, str], int] = defaultdict(int)
    for item in report.handed:
        by_reason[item.engine, item.reason] += 1
    rows = sorted(by_reason.items(), key=lambda item: (-item[1], item[0]))
    table = make_table("handed to", ">ops", "why")
    for (engine, reason), count in rows[:REASONS_SHOWN]:
        table.add_row(engine, str(count), reason)
    if rest := rows[REASONS_SHOWN:]:
        table.add_row("", str(sum(count for _, count in rest)), f"{len(rest)} other reasons, listed in the JSON")
    return table


def _add_rows(table: Table, rows: Sequence[Row], totals: Sequence[str] = ()) -> None:
    """Adds the rows with a share column, then the total."""
    times, total = time_column([ps for _, ps, _ in rows])
    shares, whole = share_column([ps for _, ps, _ in rows])
    for (name, _, after), time, part in zip(rows, times, shares, strict=True):
        table.add_row(name, time, part, *after)
    table.add_row("total", total, whole, *totals, style="bold")
    table.add_row()
