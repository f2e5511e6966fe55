"""Measures the zoo and writes the table in README.md: `python tests/zoo/zoo_table.py`.

With names, as `vision:resnet18 text:llama`, those alone are measured, and their rows are printed. `--jobs 4` takes four
processes.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import warnings
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from zoo_measure import LEVELS, NATIVE, Row, entries, measure

README = Path(__file__).with_name("README.md")
MARK = "<!-- written by zoo_table.py from here on -->\n"
COLUMNS = ["architecture", "FX nodes", "coverage", *LEVELS, NATIVE, "export", "import", "compile", "run"]


def cells(row: Row) -> list[str]:
    seconds = row.seconds
    runs = (*LEVELS, NATIVE)
    return [
        row.name,
        str(row.nodes),
        f"{row.coverage:.1%}" if row.coverage < 1 else "100%",
        *(f"{row.errors[k]:.1e}" if k in row.errors else "-" for k in runs),
        f"{seconds.get('export', 0):.2f}",
        f"{seconds.get('import', 0):.3f}",
        f"{sum(seconds.get(f'{k} compile', 0) for k in LEVELS):.2f}",
        f"{sum(seconds.get(k, 0) for k in runs):.2f}",
    ]


def line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def table(rows: list[Row]) -> str:
    """Markdown: what passes and what does not, a row for each architecture, and why some stay in f32."""
    failed = [f"- {r.name}: {r.wrong}" for r in rows if r.wrong]
    kept = [f"- {r.name}: {r.f16}" for r in rows if r.f16]
    nodes, seconds = sum(r.nodes for r in rows), sum(sum(r.seconds.values()) for r in rows)
    parts = [
        f"{len(rows) - len(failed)} of {len(rows)} architectures pass: {nodes} FX nodes, {seconds:.0f} CPU seconds.",
        "\n".join([line(COLUMNS), line(["---", *["---:"] * (len(COLUMNS) - 1)]), *(line(cells(r)) for r in rows)]),
        *(["What does not pass:", "\n".join(failed)] if failed else []),
        *(["In f32 alone, and why:", "\n".join(kept)] if kept else []),
    ]
    return "\n\n".join(parts) + "\n"


def measured(name: str) -> Row:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    return measure(name, entries()[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=1)
    chosen = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(chosen.jobs, multiprocessing.get_context("spawn")) as pool:
        for row in pool.map(measured, chosen.names or entries()):
            rows.append(row)
            print(line(cells(row)), row.wrong, flush=True)
    if not chosen.names:
        head = README.read_text(encoding="utf-8").partition(MARK)[0]
        README.write_text(head + MARK + "\n" + table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
