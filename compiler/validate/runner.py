"""Prices the cases of tables, each workload once, fits what the harnesses add, and sums up how far off the model is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from tilewright.compiler.ir.near_match import near
from tilewright.targets.validation import Case, Harness, Table, TableError

from .price import Job, NotPriced, Price, Pricer
from .provide import Networks, load_models
from .ratios import RATIOS, Ratio
from .report import HarnessReport, RatioReport, Report
from .summary import PREDICTORS, Priced, summarise

Outcome = Price | str  # a price, or why there is none
Observer = Callable[[int, int, str], object]  # done, of, what is next


@dataclass(frozen=True, slots=True)
class Options:
    """`data`: a folder with tables of the same names; `models`: a Python file with networks; `targets`: only rows of
    these; `rows`: say each row's error; `jobs`: processes; `fidelity`: of the model."""

    data: Path | None = None
    models: Path | None = None
    targets: tuple[str, ...] = ()
    rows: bool = False
    jobs: int = 1
    fidelity: str = "cycle"


def validate(tables: Sequence[Table], options: Options, observer: Observer | None = None) -> Report:
    """Raises TableError or SourceError for input that cannot be read."""
    started = time.perf_counter()
    Networks(load_models(options.models) if options.models else {})  # a bad file is an error before any work is done
    read = [(t, t.find_cases(options.data)) for t in tables]
    found = [(t, listed) for t, listed in read if listed is not None]
    skipped = [t.name for t, listed in read if listed is None]
    _check_targets(options.targets, {c.target for _, listed in found for c in listed})
    cases = {t.name: [c for c in listed if not options.targets or c.target in options.targets] for t, listed in found}
    ratios = [r for r in RATIOS if r.table in cases and _wanted(r, options.targets)]
    jobs = [job_of(c) for listed in cases.values() for c in listed if c.workload is not None and not c.unpriced]
    jobs += (job for r in ratios for job in (r.slow, r.fast))
    outcomes = price_all(jobs, options, observer)
    priced = {t.name: [_priced(c, outcomes) for c in cases[t.name]] for t, _ in found}
    harnesses = fit_harnesses(priced)
    reports = []
    for table, _ in found:
        reports += summarise(table, priced[table.name], options.rows)
    return Report(
        tool=f"tilewright {version('tilewright')}",
        fidelity=options.fidelity,
        tables=reports,
        harnesses=harnesses,
        ratios=[_ratio(r, outcomes) for r in ratios],
        skipped=skipped,
        seconds=round(time.perf_counter() - started, 3),
    )


def _check_targets(wanted: Sequence[str], there: set[str]) -> None:
    for name in wanted:
        if name not in there:
            known = ", ".join(sorted(there - {""}))
            raise TableError(
                f"none of these tables has a row of the target '{name}'{near(name, there)}; there are {known}"
            )


def _wanted(ratio: Ratio, targets: Sequence[str]) -> bool:
    return not targets or {ratio.slow.target, ratio.fast.target} <= set(targets)


def job_of(case: Case) -> Job:
    assert case.workload is not None
    return Job(case.target, case.engines, case.settings, case.workload, case.target_file, case.eager)


def _priced(case: Case, outcomes: Mapping[Job, Outcome]) -> Priced:
    if case.workload is None or case.unpriced:
        return Priced(case, None)
    outcome = outcomes[job_of(case)]
    return Priced(replace(case, unpriced=outcome), None) if isinstance(outcome, str) else Priced(case, outcome)


# ---------------------------------------------------------------- pricing


def price_all(jobs: Iterable[Job], options: Options, observer: Observer | None = None) -> dict[Job, Outcome]:
    """Every different job once. Jobs of the same network follow each other, so that it is exported once."""
    todo = sorted(dict.fromkeys(jobs), key=lambda j: (type(j.workload).__name__, repr(j.workload), j.target))
    if options.jobs <= 1 or len(todo) < 2:
        pricer = _pricer(options.models, options.fidelity)
        results: Iterable[Outcome] = (_outcome(pricer, job) for job in todo)
        return _collect(todo, results, observer)
    groups = _groups(todo)
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), _start, (options.models, options.fidelity)) as pool:
        flat = (outcome for group in pool.map(_price_group, groups) for outcome in group)
        return _collect([job for group in groups for job in group], flat, observer)


def _collect(todo: Sequence[Job], results: Iterable[Outcome], observer: Observer | None) -> dict[Job, Outcome]:
    outcomes: dict[Job, Outcome] = {}
    iterator = iter(results)
    for i, job in enumerate(todo):
        if observer is not None:
            observer(i, len(todo), f"{getattr(job.workload, 'name', type(job.workload).__name__)} on {job.target}")
        outcomes[job] = next(iterator)
    return outcomes


GROUP = 32  # single ops that a process takes at once


def _groups(todo: Sequence[Job]) -> list[list[Job]]:
    """Jobs that a process takes together: all of one network, or a number of single ops."""
    groups: list[list[Job]] = []
    for job in todo:
        last = groups[-1] if groups else []
        same = last and type(last[0].workload) is type(job.workload)
        named = hasattr(job.workload, "name") or hasattr(job.workload, "model")
        if same and (last[0].workload == job.workload if named else len(last) < GROUP):
            last.append(job)
        else:
            groups.append([job])
    return groups


_worker: Pricer | None = None


def _start(models: Path | None, fidelity: str) -> None:
    global _worker
    _worker = _pricer(models, fidelity)


def _price_group(jobs: Sequence[Job]) -> list[Outcome]:
    assert _worker is not None
    return [_outcome(_worker, job) for job in jobs]


def _pricer(models: Path | None, fidelity: str) -> Pricer:
    return Pricer(Networks(load_models(models) if models else {}), fidelity)


def _outcome(pricer: Pricer, job: Job) -> Outcome:
    try:
        return pricer.price(job)
    except NotPriced as reason:
        return str(reason)


# ---------------------------------------------------------------- what the harnesses add


def fit_harnesses(priced: Mapping[str, list[Priced]]) -> list[HarnessReport]:
    """Sets what each row's harness adds, and says what that is.

    A call's cost that is not stated comes from the shortest measurement of the harness on the target: what that takes
    longer than predicted, at least nothing. The row is marked as fitted. Each predictor is fitted on its own.
    """
    groups: dict[tuple[Harness, str], list[tuple[str, Priced]]] = {}
    for table, rows in priced.items():
        for row in rows:
            if row.price is not None:
                groups.setdefault((row.case.harness, row.case.target), []).append((table, row))
    reports = []
    for (harness, target), members in groups.items():
        origin = ""
        calls: dict[str, float] = dict.fromkeys(PREDICTORS, harness.call_s or 0.0)
        if harness.call_s is None:
            table, shortest = min(members, key=lambda m: (m[1].case.measured, m[1].case.label))
            origin = f"{table}:{shortest.case.row}"
            for name in PREDICTORS:
                calls[name] = max(0.0, shortest.case.measured - shortest.predicted(name))
            why = f"gives what a call of the harness {harness.name} costs"
            shortest.case = replace(shortest.case, fitted=shortest.case.fitted or why)
        for _, row in members:
            row.call_s = calls
        if harness.name != "device":
            reports.append(
                HarnessReport(
                    name=harness.name,
                    target=target,
                    call_s=calls["model"],
                    copy_bytes_per_s=harness.copy_bytes_per_s,
                    factor=harness.factor,
                    row=origin,
                    source=harness.source,
                )
            )
    return reports


# ---------------------------------------------------------------- ratios


def _ratio(ratio: Ratio, outcomes: Mapping[Job, Outcome]) -> RatioReport:
    slow, fast = outcomes[ratio.slow], outcomes[ratio.fast]
    bounds = f"{ratio.least:.2f} or more" if ratio.most == float("inf") else f"{ratio.least:.2f} to {ratio.most:.2f}"
    value, why = None, ""
    if isinstance(slow, str) or isinstance(fast, str):
        why = slow if isinstance(slow, str) else str(fast)
    else:
        value = slow.model / fast.model
    return RatioReport(
        name=ratio.name,
        expected=bounds,
        source=ratio.source,
        predicted=value,
        met=None if value is None else ratio.least <= value <= ratio.most,
        unpriced=why,
    )
