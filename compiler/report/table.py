"""The cost report as tables for people. A column of times or shares adds up to its last line, as printed."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .model import CostReport, exposed_ps
from .units import (
    BYTES,
    COUNTS,
    ENERGIES,
    TIMES,
    column,
    format_bytes,
    format_count,
    format_pj,
    format_ps,
    share,
    share_column,
)

OPS_SHOWN = 10
CAUSES_SHOWN = 8
REASONS_SHOWN = 8
NO_TASK = "no task"
AT_REST = "memory at rest"
PARTS_SHOWN = {  # of the energy, as the summary calls them
    "mac": "MACs",
    "vector": "vector",
    "local": "engines' memory",
    "slc": "SLC",
    "dram": "DRAM",
    "launch": "launches",
    "static": "engines' static",
    "memory": AT_REST,
}
DRAM_PARTS = {  # what DRAM is busy with
    "data": "data",
    "rows": "row misses",
    "sharing": "streams in each other's way",
    "refresh": "refresh",
    "controller": "controller",
}
PATH_WIDTH = 40
CAUSES = {  # what the simulator's causes mean; others are names of units
    "matrix": "matrix unit",
    "vector": "vector unit",
    "dram": "DRAM bandwidth",
    "slc": "system cache bandwidth",
    "port": "fabric port",
    "copy": "DMA rate",
    "setup": "DMA setup",
    "latency": "memory latency",
    "launch": "launch",
    "task": "task overhead",
    "idle": "waiting",
}


def print_report(report: CostReport, console: Console) -> None:
    """Prints latency, traffic, engines, what bounds the program, the costliest ops, what was handed over, and the
    seconds that each phase of the tool took."""
    console.print(_summary(report), _engines(report), _bounds(report), _ops(report), sep="\n")
    if report.handed:
        console.print(_handed(report))
    for text in report.assumptions:
        console.print(f"assumed: {text}")
    phases = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in _phases(report).items() if seconds)
    if phases:
        console.print(f"the tool's own time: {phases}")


def print_comparison(reports: Sequence[CostReport], console: Console) -> None:
    """Prints one row for each report: its sizes, its cost, and the seconds that each phase of the tool took."""
    first = reports[0]
    console.print(Text(f"{first.model} on {first.target} ({first.fidelity})", "bold"))
    dims = list(dict.fromkeys(name for r in reports for name in r.dims))
    columns = ("latency", "MACs", "MAC/s", "DRAM read", "DRAM written", "energy", *_phases(first))
    table = make_table(*(f">{name}" for name in (*dims, *columns)), "bound by")
    for r in reports:
        table.add_row(
            *(str(r.dims.get(name, "")) for name in dims),
            format_ps(r.latency_ps),
            format_count(r.macs),
            format_count(round(r.macs * 1e12 / (r.latency_ps or 1))),
            format_bytes(r.dram_bytes.read),
            format_bytes(r.dram_bytes.write),
            "-" if r.energy.total_pj is None else format_pj(r.energy.total_pj),
            *(f"{seconds:.2f} s" if seconds else "-" for seconds in _phases(r).values()),
            _causes(r)[0][0],
        )
    console.print(table)
    for text in dict.fromkeys(text for r in reports for text in r.assumptions):
        console.print(f"assumed: {text}")


def _phases(report: CostReport) -> dict[str, float]:
    """Seconds of each phase of the tool, in order."""
    p = report.phases
    return {"export": p.export_s, "import": p.import_s, "passes": p.passes_s, "simulate": p.simulate_s}


def make_table(*columns: str) -> Table:
    """A plain table; a column whose name starts with '>' is set to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        right = name.startswith(">")
        table.add_column(name.removeprefix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def _summary(report: CostReport) -> Text:
    seconds = report.latency_ps / 1e12 or 1.0
    moved = report.dram_bytes.read + report.dram_bytes.write
    return Text.assemble(
        (f"{report.model} on {report.target}", "bold"),
        f" ({report.fidelity}): ",
        (format_ps(report.latency_ps), "bold green"),
        f", {format_count(report.macs)}MAC at {format_count(round(report.macs / seconds))}MAC/s\n",
        f"DRAM: {format_bytes(report.dram_bytes.read)} read, {format_bytes(report.dram_bytes.write)} written, ",
        f"{moved / seconds / 1e9:.1f} GB/s on average\n",
        _dram(report, moved),
        f"energy: {_energy(report)}\n",
    )


def _dram(report: CostReport, moved: int) -> str:
    """How long DRAM was busy, with what, and what it moved meanwhile; nothing where only a rate is known of it."""
    use = report.dram
    if use is None:
        return ""
    shares = ", ".join(f"{DRAM_PARTS[part]} {share(ps, use.busy_ps)}" for part, ps in use.parts.items() if ps > 0)
    rate = moved / max(use.busy_ps, 1) * 1e3
    hits = max(0, use.accesses - use.activates)
    return (
        f"  busy for {format_ps(use.busy_ps)} at {rate:.1f} GB/s: {shares}; {share(hits, use.accesses)} of its lines "
        f"in open rows, {format_count(use.activates)} activates\n"
    )


def _energy(report: CostReport) -> str:
    """The total, the average power and the parts in one line; or what the target would have to say."""
    spent = report.energy
    if spent.total_pj is None:
        return f"not known; {report.target} does not say {', '.join(spent.missing)}"
    shares = ", ".join(f"{PARTS_SHOWN[part]} {share(pj, spent.total_pj)}" for part, pj in spent.parts.items() if pj)
    return f"{format_pj(spent.total_pj)}, {spent.average_w:.2f} W on average{': ' * bool(shares)}{shares}"


def _engines(report: CostReport) -> Table:
    known = [">energy", ">power"] if report.energy.engines else []
    table = make_table("engine", ">has a task", *known, "its units work (share of the latency)")
    for name, use in report.engines.items():
        spent = report.energy.engines.get(name)
        energy = [format_pj(spent.total_pj), f"{spent.average_w:.2f} W"] if spent else []
        units = "  ".join(f"{unit} {share(busy, report.latency_ps)}" for unit, busy in use.units.items())
        table.add_row(name, share(use.busy_ps, report.latency_ps), *energy, units)
    table.add_row()
    return table


def _causes(report: CostReport) -> list[tuple[str, int]]:
    """The time that each cause takes, by engine and by what holds it back; the largest first."""
    by_cause: dict[str, int] = defaultdict(int)
    for op, exposed in zip(report.ops, exposed_ps(report), strict=True):
        for cause, ps in _scaled(op.breakdown, exposed).items():
            by_cause[f"{op.engine} {CAUSES[cause]}" if cause in CAUSES else cause] += ps
    found = [item for item in sorted(by_cause.items(), key=lambda item: (-item[1], item[0])) if item[1]]
    return found or [(NO_TASK, 0)]


def _bounds(report: CostReport) -> Table:
    """Where the latency goes."""
    rows = [item for item in _causes(report) if item[1]]
    if rest := rows[CAUSES_SHOWN:]:
        rows[CAUSES_SHOWN:] = [("others", sum(ps for _, ps in rest))]
    rows.append((NO_TASK, report.idle_ps))
    table = make_table("bound by", ">time", ">share")
    times = [ps for _, ps in rows]
    _fill(table, [*(name for name, _ in rows), "total"], column(times, TIMES), share_column(times))
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
    groups = [[cost] for cost in costs[:OPS_SHOWN]]
    names = [op.name for _, op in costs[:OPS_SHOWN]]
    if rest := costs[OPS_SHOWN:]:
        groups.append(rest)
        names.append(f"{len(rest)} other{'s' * (len(rest) > 1)}")
    times = [*(sum(ps for ps, _ in group) for group in groups), report.idle_ps]
    macs = column([sum(op.macs for _, op in group) for group in groups], COUNTS)
    moved = column([sum(op.bytes for _, op in group) for group in groups], BYTES)
    tail, spent = [NO_TASK], []
    if report.energy.total_pj is not None:
        tail.append(AT_REST)
        energy = [sum(op.energy.total_pj for _, op in group if op.energy) for group in groups]
        spent = column([*energy, report.energy.parts["memory"]], ENERGIES)
        spent.insert(len(groups), "")
    places = [(op.engine, op.bound, op.module, _short(op.source)) for _, op in costs[:OPS_SHOWN]]
    more = [">energy"] if spent else []
    table = make_table("op", ">time", ">share", ">MACs", ">moved", *more, "on", "bound by", "module", "source")
    _fill(
        table,
        [*names, *tail, "total"],
        _spread(column(times, TIMES), len(tail) - 1),
        _spread(share_column(times), len(tail) - 1),
        _spread(macs, len(tail)),
        _spread(moved, len(tail)),
        *([spent] if spent else []),
        *([*cells] for cells in zip(*places, strict=True)),
    )
    return table


def _spread(cells: list[str], blanks: int) -> list[str]:
    """A column with so many empty cells before its total."""
    return [*cells[:-1], *[""] * blanks, cells[-1]]


def _short(source: str) -> str:
    """The end of a long path: `.../examples/resnet50.py:52`."""
    parts = source.split("/")
    return source if len(source) <= PATH_WIDTH or len(parts) < 4 else "/".join(["...", *parts[-2:]])


def _fill(table: Table, *columns: Sequence[str]) -> None:
    """Adds the rows of these columns, the last of which is the total. Columns may be short."""
    *rows, total = itertools.zip_longest(*columns, fillvalue="")
    for row in rows:
        table.add_row(*row)
    table.add_row(*total, style="bold")
    table.add_row()


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
