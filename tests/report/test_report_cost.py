"""The cost report on a hand-written simulation: its figures, its JSON, its table, its trace."""

from __future__ import annotations

import io
import json
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tilewright.compiler.ir import Location
from tilewright.compiler.report import CostReport, build_report, exposed_ps, print_report, trace_json
from tilewright.compiler.report.units import (
    BYTES,
    COUNTS,
    ENERGIES,
    TIMES,
    column,
    format_bytes,
    format_count,
    format_ps,
    share_column,
)
from tilewright.targets.parameter import Quantity
from tilewright.targets.simulator.energy import PARTS, Energy
from tilewright.targets.simulator.timing import DramUse

US = 10**6


def task(label: str, engine: str, start_us: float, end_us: float, **more: object) -> SimpleNamespace:
    span = int(end_us * US) - int(start_us * US)
    breakdown = {"matrix": span - span // 3, "dram": span // 3, "slc": 0}
    fields = {
        "reason": "",
        "dram": DramUse(),
        "macs": 1000,
        "bytes": 4096,
        "bound": f"{engine}.mac",
        "breakdown": breakdown,
    }
    place = Location("net.py", 12, 0, f"layer.{label}", label)
    return SimpleNamespace(
        label=label,
        location=place,
        engine=engine,
        start_ps=int(start_us * US),
        end_ps=int(end_us * US),
        **fields | more,
    )


def spent(tasks: int) -> Energy:
    """Some energy for each task, and some for the memory."""
    source = Quantity(value=0.5, unit="pJ/MAC", source="a test", confidence="assumed")
    parts = [dict.fromkeys(PARTS, 0) | {"mac": 1000 + i, "static": 3 * US + i} for i in range(tasks)]
    return Energy(parts, 16 * US, {"ane.energy.mac.f16": source})


@pytest.fixture
def timing() -> SimpleNamespace:
    """Fourteen ops on ane one after another, with a gap of 1 us before each; one on the cpu beside the first."""
    tasks = [task("conv0", "ane", 1, 11), task("topk", "cpu", 3, 9, reason="ane cannot sort")]
    tasks += [task(f"conv{i}", "ane", 11 * i + 1, 11 * i + 11 - i / 3) for i in range(1, 14)]
    return SimpleNamespace(
        tasks=tasks,
        latency_ps=160 * US,
        macs=15_000,
        dram_read_bytes=3 << 20,
        dram_write_bytes=1 << 20,
        dram=DramUse(4 * US, US, -US // 10, US // 2, 0, 64, 16),
        unit_busy_ps={"ane.mac": 100 * US, "ane.load": 50 * US, "cpu.simd": 6 * US, "gpu.alu": 0},
        energy=spent(15),
        slices=[("ane.mac", US, 5 * US, 0), ("ane.load", US, 2 * US, 0), ("cpu.simd", 3 * US, 9 * US, 1)],
    )


@pytest.fixture
def report(timing: SimpleNamespace) -> CostReport:
    return build_report(timing, model="net", target="m4", fidelity="cycle", phases={"export_s": 1.25, "passes_s": 0.5})


def table_text(report: CostReport) -> str:
    out = io.StringIO()
    print_report(report, Console(file=out, width=200))
    return out.getvalue()


def test_json_has_the_promised_keys(report: CostReport) -> None:
    data = json.loads(report.to_json())
    assert list(data) == [
        "schema", "tool", "model", "target", "fidelity", "dims", "assumptions", "latency_ps", "macs", "dram_bytes",
        "dram", "engines", "energy", "phases", "ops", "handed", "unpriced",
    ]  # fmt: skip
    assert data["schema"] == "tilewright.cost/1" and data["tool"].startswith("tilewright ")
    assert data["dram_bytes"] == {"read": 3 << 20, "write": 1 << 20}
    parts = {"data": 4 * US, "rows": US, "sharing": -US // 10, "refresh": US // 2, "controller": 0}
    assert data["dram"] == {"busy_ps": 54 * US // 10, "parts": parts, "accesses": 64, "activates": 16}
    assert data["phases"] == {"export_s": 1.25, "import_s": 0.0, "passes_s": 0.5, "simulate_s": 0.0}
    assert data["ops"][0] == {
        "id": 0, "name": "conv0", "module": "layer.conv0", "source": "net.py:12", "engine": "ane",
        "start_ps": US, "end_ps": 11 * US, "macs": 1000, "bytes": 4096, "bound": "ane.mac",
        "breakdown": {"matrix": 6_666_667, "dram": 3_333_333},
        "energy": {"total_pj": 1000 + 3 * US, "parts": dict.fromkeys(PARTS, 0) | {"mac": 1000, "static": 3 * US}},
        "dram": None,
    }  # fmt: skip
    assert [h["name"] for h in data["handed"]] == ["topk"] and data["unpriced"] == []


def test_table_says_what_dram_was_busy_with(report: CostReport) -> None:
    line = next(t for t in table_text(report).splitlines() if "busy for" in t)
    assert "5.400 us" in line and "75.0% of its lines in open rows" in line and "row misses" in line, line


def test_json_validates_against_the_model(report: CostReport) -> None:
    assert CostReport.model_validate_json(report.to_json()) == report


def test_model_refuses_what_it_does_not_know(report: CostReport) -> None:
    with pytest.raises(ValueError, match="latency_s"):
        CostReport.model_validate({**json.loads(report.to_json()), "latency_s": 1})


def test_engines_are_those_that_worked(report: CostReport) -> None:
    assert list(report.engines) == ["ane", "cpu"]
    assert report.engines["cpu"].busy_ps == 6 * US
    assert report.engines["ane"].units == {"ane.load": 50 * US, "ane.mac": 100 * US}


def test_an_op_hidden_behind_another_costs_nothing(report: CostReport) -> None:
    exposed = exposed_ps(report)
    assert exposed[0] == 10 * US and exposed[1] == 0
    assert sum(exposed) + report.idle_ps == report.latency_ps


def test_table_adds_up_as_printed(report: CostReport) -> None:
    """In both tables the printed times and shares add up to the printed totals."""
    sections = re.findall(r"^(?:bound by|op) .*?^total[^\n]*", table_text(report), re.M | re.S)
    assert len(sections) == 2
    for section in sections:
        rows = re.findall(r"(\d+\.\d{3}) us +(\d+\.\d)%", section)
        *parts, total = [(float(time), float(share)) for time, share in rows]
        assert total == (160.0, 100.0)
        assert sum(t for t, _ in parts) == pytest.approx(160.0, abs=1e-9)
        assert sum(s for _, s in parts) == pytest.approx(100.0, abs=1e-9)


def test_energy_in_json_adds_up(report: CostReport) -> None:
    energy = json.loads(report.to_json())["energy"]
    tasks = sum(1000 + i + 3 * US + i for i in range(15))
    assert energy["total_pj"] == sum(energy["parts"].values()) == tasks + 16 * US
    assert energy["average_w"] == pytest.approx(energy["total_pj"] / (160 * US))  # pJ/ps is W
    assert sum(e["total_pj"] for e in energy["engines"].values()) == energy["total_pj"] - energy["parts"]["memory"]
    assert energy["engines"]["cpu"]["parts"]["mac"] == 1001
    assert energy["engines"]["cpu"]["average_w"] == pytest.approx((1001 + 3 * US + 1) / (6 * US)), "while it has a task"
    assert energy["sources"] == {
        "ane.energy.mac.f16": {"value": 0.5, "unit": "pJ/MAC", "source": "a test", "confidence": "assumed"}
    }


def test_energy_in_the_table_adds_up(report: CostReport) -> None:
    text = table_text(report)
    assert "energy: 61.015 uJ, 0.38 W on average: MACs 0.0%, engines' static 73.8%, memory at rest 26.2%" in text
    cells = [float(c) for c in re.findall(r"(\d+\.\d{3}) uJ", text[text.index("\nop  ") :])]
    assert cells[-1] == 61.015 and sum(cells[:-1]) == pytest.approx(61.015, abs=1e-9)
    assert re.search(r"^memory at rest +16\.000 uJ", text, re.M)


def test_energy_that_is_not_known_is_never_a_number(timing: SimpleNamespace) -> None:
    timing.energy = Energy(missing=("cpu.energy", "memory.energy"))
    report = build_report(timing, model="net", target="npu", fidelity="cycle", phases={})
    text, data = table_text(report), json.loads(report.to_json())
    assert "energy: not known; npu does not say cpu.energy, memory.energy" in text
    assert " J" not in text and "uJ" not in text and "memory at rest" not in text
    assert (data["energy"]["total_pj"], data["energy"]["average_w"], data["energy"]["parts"]) == (None, None, {})
    assert all(op["energy"] is None for op in data["ops"])


def test_table_names_ten_ops_and_the_others(report: CostReport) -> None:
    text = table_text(report)
    ops = text[text.index("\nop  ") + 1 :]
    assert len(re.findall(r"net\.py:12", ops)) == 10
    assert re.search(r"^5 others ", ops, re.M) and re.search(r"^no task ", ops, re.M)
    assert "layer.conv0" in ops and "ane cannot sort" in text


def test_table_of_nothing() -> None:
    """A program that only gives its input back has no tasks and takes no time."""
    empty = SimpleNamespace(
        tasks=[], latency_ps=0, macs=0, dram_read_bytes=0, dram_write_bytes=0, unit_busy_ps={}, slices=[],
        energy=Energy(), dram=DramUse(),
    )  # fmt: skip
    report = build_report(empty, model="identity", target="m4", fidelity="cycle", phases={})
    assert "total" in table_text(report)


def test_trace_has_a_lane_for_each_unit(timing: SimpleNamespace) -> None:
    trace = json.loads(trace_json(timing, model="net", target="m4", fidelity="cycle"))
    events = trace["traceEvents"]
    processes = {e["args"]["name"]: e["pid"] for e in events if e["name"] == "process_name"}
    lanes = {e["args"]["name"]: (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert list(processes) == ["ane", "cpu", "gpu"]
    assert set(lanes) == {"tasks", "ane.mac", "ane.load", "cpu.simd", "gpu.alu"}
    spans = [e for e in events if e["ph"] == "X"]
    assert len(spans) == len(timing.tasks) + len(timing.slices)
    (mac,) = [e for e in spans if (e["pid"], e["tid"]) == lanes["ane.mac"]]
    assert (mac["name"], mac["ts"], mac["dur"]) == ("conv0", 1.0, 4.0)
    (topk,) = [e for e in spans if e["pid"] == processes["cpu"] and e["tid"] == 0]
    assert topk["args"]["reason"] == "ane cannot sort"


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=40))
def test_columns_add_up(parts: list[int]) -> None:
    columns = [column(parts, units) for units in (TIMES, BYTES, COUNTS, ENERGIES)]
    for *cells, total in (*columns, share_column(parts)):
        whole = sum(round(float(re.match(r"[\d.]+", c)[0]) * 1000) for c in cells)  # type: ignore[index]
        assert whole == round(float(re.match(r"[\d.]+", total)[0]) * 1000)  # type: ignore[index]
        assert len({re.sub(r"[\d.]+", "", c) for c in [*cells, total]}) == 1  # one unit


def test_units() -> None:
    assert [format_ps(n) for n in (7, 1500, 2 * US, 3 * 10**9, 10**12)] == [
        "7 ps",
        "1.500 ns",
        "2.000 us",
        "3.000 ms",
        "1.000 s",
    ]
    assert [format_bytes(n) for n in (12, 1536, 3 << 20, 5 << 30)] == ["12 B", "1.500 KiB", "3.000 MiB", "5.000 GiB"]
    assert [format_count(n) for n in (12, 1500, 4_089_000_000)] == ["12", "1.500 k", "4.089 G"]
