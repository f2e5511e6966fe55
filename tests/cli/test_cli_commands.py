"""Every command on a small model."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from cli_model import Tilewright
from tilewright.compiler.cli.run import compare
from tilewright.compiler.report import CostReport

M4 = ("--target", "m4")
EXAMPLE_PASS = Path(__file__).parents[2] / "examples" / "passes" / "divide_to_multiply.py"
DIVIDES = """
func.func @main(%x: tensor<4xf16>) -> tensor<4xf16> {
  %c = graph.constant {value = 8.0} : tensor<f16>
  %y = graph.div %x, %c : tensor<4xf16>
  func.return %y
}
"""


def test_cost_prints_only_json_on_a_dash(ok: Tilewright) -> None:
    report = CostReport.model_validate_json(ok("cost", "net.py:net", *M4, "--json", "-").out)
    assert (report.model, report.target, report.fidelity) == ("net", "m4", "cycle")
    assert report.macs == 2 * 16 * 16 * 16 * 27 + 2 * 16 * 10
    assert report.macs == sum(op.macs for op in report.ops)
    assert all(op.source.startswith("net.py:") for op in report.ops)
    assert {op.module for op in report.ops} >= {"conv", "fc"}
    assert 0 < max(op.end_ps for op in report.ops) <= report.latency_ps


def test_cost_prints_tables_and_writes_json(ok: Tilewright) -> None:
    result = ok("cost", "net.py:net", *M4, "--json", "cost.json", "--fidelity", "roofline", "--dtype", "f32")
    report = CostReport.model_validate_json(Path("cost.json").read_text())
    assert report.fidelity == "roofline"
    assert result.out.startswith("net on m4 (roofline): ") and "net.py:15" in result.out
    assert [p.name for p in Path().iterdir() if p.name.startswith(".")] == []  # no temporary file is left


def test_dims_are_keywords_of_the_callable(ok: Tilewright) -> None:
    report = CostReport.model_validate_json(ok("cost", "net.py:net", *M4, "--dim", "width=32", "--json", "-").out)
    assert report.macs == 2 * 32 * 16 * 16 * 27 + 2 * 32 * 10


def test_work_that_an_engine_lacks_is_listed(ok: Tilewright) -> None:
    """The Neural Engine has no f32, so with f32 all the work goes to the CPU, with the reason."""
    result = ok("cost", "net.py:net", *M4, "--engines", "ane", "--dtype", "f32", "--json", "-")
    report = CostReport.model_validate_json(result.out)
    assert list(report.engines) == ["cpu"]
    assert len(report.handed) == len(report.ops) and all("f32" in h.reason for h in report.handed)


@pytest.mark.parametrize("level", ["graph", "tile", "soc"])
def test_every_level_agrees_with_eager(ok: Tilewright, level: str) -> None:
    exact = ok("run", "net.py:net", *M4, "--level", level, "--check", "--arith", "f32")
    assert "all outputs match" in exact.out and "tolerance of 0.0001" in exact.out
    rounded = ok("run", "net.py:net", *M4, "--level", level, "--check")
    assert len(re.findall(r"^output \d .* ok$", rounded.out, re.M)) == 2 and "tolerance of 0.02" in rounded.out


def test_a_wrong_program_is_a_mismatch(ok: Tilewright, tw: Tilewright, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reference is compared with comes from the program, not from the model again."""
    from tilewright.compiler.frontend import eager

    right = eager.run_eager
    monkeypatch.setattr(eager, "run_eager", lambda *args: [2 * x + 1 for x in right(*args)])
    result = tw("run", "net.py:net", *M4, "--level", "graph", "--check")
    assert result.code == 1 and "MISMATCH" in result.out and "2 of 2 outputs differ" in result.out


def test_run_without_a_check_shows_the_outputs(ok: Tilewright) -> None:
    assert re.search(r"^output 0 +2x10 +-?\d", ok("run", "net.py:net", *M4, "--level", "graph").out, re.M)


@pytest.mark.parametrize(
    ("actual", "expected", "relative"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([3.0, 4.0], [0.0, 0.0], np.inf),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
        ([np.inf, 1.0], [1.0, 1.0], np.inf),
        ([np.nan, 1.0], [1.0, 1.0], np.nan),
        ([1.0, 1.5], [1.0, 1.0], 0.5 / np.sqrt(2)),
    ],
)
def test_errors_between_arrays(actual: list[float], expected: list[float], relative: float) -> None:
    difference = compare("y", np.array(actual), np.array(expected))
    np.testing.assert_allclose(difference.relative_l2, relative)


def test_compiled_text_costs_what_its_source_costs(ok: Tilewright) -> None:
    """A file written at any level goes on from there, and knows where its ops come from."""
    direct = json.loads(ok("cost", "net.py:net", *M4, "--json", "-").out)
    for level in ("graph", "tile", "soc"):
        ok("compile", "net.py:net", *M4, "--emit", level, "-o", "net.mlir")
        again = json.loads(ok("cost", "net.mlir", *M4, "--json", "-").out)
        again["phases"] = direct["phases"]
        assert again == direct, level


def test_compiled_text_runs(ok: Tilewright) -> None:
    ok("compile", "net.py:net", *M4, "--emit", "graph", "-o", "net.mlir")
    assert "all outputs match" in ok("run", "net.mlir", *M4, "--level", "soc", "--check", "--arith", "f32").out


def test_compile_prints_each_level(ok: Tilewright) -> None:
    assert "graph.conv" in ok("compile", "net.py:net", *M4, "--emit", "graph").out
    assert "tile.loop" in ok("compile", "net.py:net", *M4, "--emit", "tile").out
    soc = ok("compile", "net.py:net", *M4, "--emit", "soc")
    assert "soc.launch" in soc.out and "loc(" not in soc.out
    assert "net.py" in ok("compile", "net.py:net", *M4, "--emit", "graph", "--locations").out
    assert '"graph.conv"(' in ok("compile", "net.py:net", *M4, "--emit", "graph", "--generic").out


def test_opt_reads_and_writes_text(ok: Tilewright, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(DIVIDES))
    once = ok("opt", "-").out
    assert once.strip() == DIVIDES.strip()
    Path("divides.mlir").write_text(once)
    assert ok("opt", "divides.mlir").out == once


def test_opt_with_a_pass_of_ones_own(ok: Tilewright) -> None:
    Path("divides.mlir").write_text(DIVIDES)
    passes = "divide-to-multiply,canonicalize"
    result = ok("opt", "divides.mlir", "--load", str(EXAMPLE_PASS), "--passes", passes, "--print-ir-after-all")
    assert "graph.mul" in result.out and "value = 0.125" in result.out and "graph.div" not in result.out
    assert "value = 8.0" not in result.out
    assert re.findall(r"^// after (.*)$", result.err, re.M) == passes.split(",")


def test_the_example_pass_is_short() -> None:
    assert len(EXAMPLE_PASS.read_text().splitlines()) < 40


def test_opt_with_a_target(ok: Tilewright) -> None:
    Path("divides.mlir").write_text(DIVIDES)
    assert "tile.loop" in ok("opt", "divides.mlir", "--passes", "place,tile", *M4).out


def test_trace_has_a_lane_for_each_unit(ok: Tilewright) -> None:
    ok("trace", "net.py:net", *M4, "-o", "trace.json")
    events = json.loads(Path("trace.json").read_text())["traceEvents"]
    lanes = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert "tasks" in lanes and any(re.fullmatch(r"\w+\.load", lane) for lane in lanes)
    assert all(e["dur"] >= 0 for e in events if e["ph"] == "X")


def test_explore_runs_the_product_of_the_settings(ok: Tilewright) -> None:
    settings = ("--set", "ane.cores=8,16", "--set", "memory.bandwidth=60e9,120GB/s")
    result = ok("explore", "net.py:net", *M4, "--engines", "ane", *settings, "-o", "grid.parquet")
    rows = pyarrow.parquet.read_table("grid.parquet").to_pylist()
    assert [(r["ane.cores"], r["memory.bandwidth"]) for r in rows] == [
        (8, "60e9"), (8, "120GB/s"), (16, "60e9"), (16, "120GB/s"),
    ]  # fmt: skip
    assert all(r["latency_ps"] > 0 and r["dram_read_bytes"] > 0 and 0 < r["busy.ane.mac"] < 1 for r in rows)
    assert all(r["energy_pj"] > 0 for r in rows)
    assert len(result.out.splitlines()) == 5


def test_targets_and_models(ok: Tilewright) -> None:
    assert re.search(r"^m4 +Apple M4 +ane, gpu, cpu", ok("targets", "list").out, re.M)
    assert re.search(r"^ane\.cores +16 cores +[ABC] ", ok("targets", "show", "m4").out, re.M)
    listed = ok("models").out
    assert {"resnet50", "mobilenetv2", "vit_b16", "llama", "llama_decode", "unet"} <= set(listed.split())
    assert "layers=16" in listed
