"""`tilewright validate`: how far the model is off what was measured, table by table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Fidelity, FidelityOption
from .output import Progress, console, write_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from tilewright.compiler.validate import Report, TableReport
    from tilewright.compiler.validate.statistics import Errors


def validate(
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TABLE...",
            help="Names of tables, or what they begin with: tpu, gpu/neusight, v6e_gemm. By default all.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Write the report as JSON; - prints it and nothing else."),
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="Say each row's measured and predicted time, its error and its parts.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Take tables of the same names and columns from this folder; those it lacks are skipped.",
        ),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.py",
            help="Networks for the tables: a dict MODELS from a model's name to a callable that gives (model, args).",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="NAME", help="Only rows of this target. Repeatable.", show_default=False),
    ] = None,
    host: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="For the tables `host`: this machine, as `targets measure-host` writes it. By default measured anew.",
        ),
    ] = None,
    fidelity: FidelityOption = Fidelity.CYCLE,
    jobs: Annotated[int, typer.Option("--jobs", min=1, metavar="N", help="Processes to price with.")] = 1,
) -> None:
    """Run the model on every row of the measured tables and print its errors, in percent of the measured time.

    Rows that were used for fitting are marked and never counted; rows without a price are listed with the reason.
    """
    progress = Progress()
    from tilewright.targets.validation import HostTable, find_tables

    found = find_tables(tables or [])
    if host is not None and not host.is_file():
        raise typer.BadParameter(f"no file {host}", param_hint="--host")
    if data is not None and not data.is_dir():
        raise typer.BadParameter(f"{data} is no folder", param_hint="--data")
    progress.show("loading torch")
    from tilewright.compiler.validate import Options
    from tilewright.compiler.validate import validate as run

    options = Options(data, models, tuple(target or ()), rows, jobs, fidelity.value)

    if host is not None:
        found = [replace(t, target_file=host) if isinstance(t, HostTable) else t for t in found]
    doing = "measuring this machine" if any(t.on_request for t in found) else "reading the tables"
    with progress.phase("validate", doing):
        report = run(found, options, lambda done, of, doing: progress.show(f"{done + 1} of {of}: {doing}"))
    if json is not None:
        write_text(json, report.to_json())
    if json != "-":
        print_report(report, console(), rows)


def print_report(report: Report, out: Console, rows: bool) -> None:
    """Prints errors by table and by part, where the predicted time goes, ratios, harnesses, and what is missing."""
    counted = [t for t in report.tables if t.counted]
    if counted:
        out.print(_errors(counted))
        out.print("MAPE, median, p90 and bias in percent of the measured time; roofline and closed form: their MAPE\n")
    for table in (_parts(counted), _causes(counted), _ratios(report), _harnesses(report)):
        if table.row_count:
            out.print(table)
            out.print()
    if rows:
        for t in report.tables:
            if t.cases and t.use != "calibrate":
                out.print(f"{t.name} on {t.target}", style="bold")
                out.print(_rows(t))
                out.print()
    missing = _unpriced(report)
    if missing.row_count:
        out.print(missing)
        out.print()
    if calibration := [t for t in report.tables if t.use == "calibrate"]:
        names = ", ".join(f"{t.name} ({t.rows})" for t in calibration)
        out.print(f"for calibration, never counted: {names}")
    if report.skipped:
        out.print(f"not in the folder: {', '.join(report.skipped)}")


def _make(*columns: str) -> Table:
    from tilewright.compiler.report import make_table

    return make_table(*columns)


def _number(value: float | None, decimals: int = 1) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _cells(e: Errors) -> tuple[str, ...]:
    return _number(e.mape), _number(e.median), _number(e.p90), _signed(e.bias), _number(e.tau, 2)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _errors(tables: list[TableReport]) -> Table:
    columns = (">rows", ">fitted", ">counted", ">MAPE", ">median", ">p90", ">bias", ">tau", ">roofline", ">closed form")
    table = _make("table", "target", *columns)
    for t in tables:
        baselines = (_number(t.roofline.mape), _number(t.closed_form.mape))
        name = t.name if t.exact is None else f"{t.name}: {t.exact} exact"
        table.add_row(name, t.target, str(t.rows), str(t.fitted), str(t.counted), *_cells(t), *baselines, style="bold")
        for regime in t.regimes if len(t.regimes) > 1 else []:
            name = regime.name if regime.name == "mixed" else f"{regime.name}-bound"
            table.add_row(f"  {name}", "", "", "", str(regime.counted), *_cells(regime))
    return table


def _parts(tables: list[TableReport]) -> Table:
    table = _make("part", "of", "target", ">rows", ">counted", ">MAPE", ">median", ">p90", ">bias", ">tau")
    for t in tables:
        for part in t.parts:
            if part.counted:
                table.add_row(part.name, t.name, t.target, str(part.rows), str(part.counted), *_cells(part))
    return table


# What the simulator's causes belong to.
_GROUPS = {
    "matrix": "compute", "vector": "compute", "dram": "memory", "slc": "memory", "port": "memory", "copy": "memory",
    "setup": "memory", "latency": "memory", "launch": "launch", "task": "launch", "harness": "harness",
}  # fmt: skip


def _causes(tables: list[TableReport]) -> Table:
    groups = ("compute", "memory", "launch", "harness", "others")
    table = _make("share of the predicted time", "target", *(f">{g}" for g in groups))
    for t in tables:
        shares: dict[str, float] = dict.fromkeys(groups, 0.0)
        for cause, share in t.causes.items():
            shares[_GROUPS.get(cause, "others")] += share
        table.add_row(t.name, t.target, *(f"{share:.1f}%" for share in shares.values()))
    return table


def _ratios(report: Report) -> Table:
    table = _make("ratio", "expected", ">predicted", "")
    for r in report.ratios:
        verdict = r.unpriced if r.met is None else "met" if r.met else "not met"
        table.add_row(r.name, r.expected, _number(r.predicted, 2), verdict)
    return table


def _harnesses(report: Report) -> Table:
    table = _make("harness", "target", ">a call", ">copies", ">factor", "fitted to", "source")
    for h in report.harnesses:
        copies = f"{h.copy_bytes_per_s / 1e9:.2f} GB/s" if h.copy_bytes_per_s else "-"
        table.add_row(h.name, h.target, f"{h.call_s * 1e3:.3f} ms", copies, f"{h.factor:g}", h.row or "-", h.source)
    return table


def _rows(t: TableReport) -> Table:
    unit, scale = ("us", 1e6) if t.unit == "s" else (t.unit, 1.0)
    table = _make(
        ">line", "what", f">measured, {unit}", ">predicted", ">roofline", ">closed form", ">error", "bound by", "note"
    )
    for c in t.cases or ():
        times = (None if v is None else v * scale for v in (c.measured, c.predicted, c.roofline, c.closed_form))
        note = c.unpriced or (f"not counted: {c.fitted}" if c.fitted else "")
        table.add_row(c.row, c.label, *(_number(v, 2) for v in times), _signed(c.error), c.regime, note)
    return table


def _unpriced(report: Report) -> Table:
    table = _make("without a price", "target", ">rows", "why")
    for t in report.tables:
        reasons: dict[str, int] = {}
        for row in t.unpriced:
            reasons[row.reason] = reasons.get(row.reason, 0) + 1
        for reason, count in reasons.items():
            table.add_row(t.name, t.target, str(count), reason)
    return table
