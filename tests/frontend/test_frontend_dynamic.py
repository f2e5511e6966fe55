"""Programs with open sizes: binding them, one export for many bindings, and what cannot be bound."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from frontend_check import same_as_eager
from tilewright.compiler.cli import main
from tilewright.compiler.frontend import sources
from tilewright.compiler.frontend.errors import DataDependentShape, ExportFailed, SourceError, UnknownDim, ViolatedGuard
from tilewright.compiler.frontend.importer import import_program
from tilewright.compiler.frontend.sizes import Unknown, evaluate, holds
from tilewright.compiler.frontend.sources import load, load_each
from tilewright.compiler.frontend.specialise import dims_of, specialise
from torch.export import Dim

SOURCE = """
import torch
from torch.export import Dim

class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed = torch.nn.Embedding(50, width)
        self.out = torch.nn.Linear(width, width)

    def forward(self, ids):
        x = self.embed(ids)
        with torch.no_grad():
            steps = torch.arange(ids.shape[1], device=ids.device) / ids.shape[1]
        y = x + steps[None, :, None]
        y.mul_(2)
        tail = y[:, -1:].expand(-1, ids.shape[1], -1)
        return self.out(y).flatten(1), tail + y, ids.shape[1] * 2

SHAPES = {"ids": {0: Dim("batch", max=16), 1: Dim("seq", min=2, max=4096)}}
IDS = torch.arange(14).reshape(2, 7)

def net(width=8):
    return Net(width), (IDS,), {}, SHAPES

def by_keyword(seq=5, width=8):
    return Net(width), (IDS,), {}, {"ids": {0: Dim.STATIC, 1: Dim("seq", min=2)}}

def exported():
    return torch.export.export(Net(8).eval(), (IDS,), dynamic_shapes=SHAPES)

def saved():
    torch.export.save(exported(), "saved.pt2")
    return torch.export.load("saved.pt2")

class Pairs(torch.nn.Module):
    def forward(self, x, y):
        z = x.view(x.shape[0], x.shape[1] // 2, 2, 4).sum(2)
        return torch.cat([z, y], 1)

def pairs():
    x, y = torch.randn(2, 6, 4), torch.randn(2, 3, 4)
    batch, half = Dim("batch"), Dim("half", max=500)
    return Pairs(), (x,), {"y": y}, {"x": {0: batch, 1: 2 * half}, "y": {0: batch, 1: Dim.AUTO}}

class Images(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x):
        y = self.conv(x)
        return torch.nn.functional.interpolate(y, scale_factor=2).mean((2, 3)), y

def images():
    side = Dim("size", min=8, max=512)
    return Images(), (torch.randn(2, 3, 16, 16),), {}, {"x": {2: side, 3: side}}

class Choosy(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] > 5 else x

def choosy():
    return Choosy(), (torch.ones(8),), {}, {"x": {0: Dim.AUTO}}

def chosen():
    torch.export.save(torch.export.export(Choosy(), (torch.ones(8),), dynamic_shapes={"x": {0: Dim.AUTO}}), "c.pt2")
    return torch.export.load("c.pt2")

def one():
    return Net(8), (IDS[:1],), {}, SHAPES

def too_wide():
    return Pairs(), (torch.randn(2, 6, 4), torch.randn(2, 3, 4)), {}, {"x": {1: Dim("n")}, "y": {}}

class Search(torch.nn.Module):
    def forward(self, x):
        found = torch.nonzero(x > 0)
        return found.sum(0)

class Searching(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.search = Search()

    def forward(self, x):
        return self.search(x) + 1

def searching():
    return Searching(), (torch.ones(4, 4),)

class Branch(torch.nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

def branch():
    return Branch(), (torch.ones(4),)
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "open_sizes.py").write_text(SOURCE)
    return Path("open_sizes.py")


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Holds an item for each export that was made."""
    made: list[int] = []
    export = sources.export
    monkeypatch.setattr(sources, "export", lambda *args: (made.append(1), export(*args))[1])
    return made


def line_of(text: str) -> int:
    return SOURCE.splitlines().index(text) + 1


def message(error: type[SourceError], source: str, **dims: int) -> str:
    with pytest.raises(error) as caught:
        load(source, "f32", dims)
    return str(caught.value)


def test_one_export_serves_many_bindings(file: Path, exports: list[int]) -> None:
    bindings = [{"batch": 2, "seq": 7}, {"batch": 1, "seq": 2}, {"batch": 3, "seq": 12}]
    for dims, loaded in zip(bindings, load_each(f"{file}:net", bindings, "f32"), strict=True):
        assert str(loaded.module.main.args[0].type) == f"tensor<{dims['batch']}x{dims['seq']}xi64>"
        assert loaded.dims == dims
        assert (loaded.export_s == 0) == (dims != bindings[0])
        same_as_eager(loaded)
    assert len(exports) == 1


def test_a_keyword_exports_anew(file: Path, exports: list[int]) -> None:
    bindings = [{"width": w, "batch": 2, "seq": s} for w in (8, 16) for s in (3, 9)]
    widths = [loaded.module.main.outputs[1].type.shape for loaded in load_each(f"{file}:net", bindings, "f32")]
    assert widths == [(2, 3, 8), (2, 9, 8), (2, 3, 16), (2, 9, 16)]
    assert len(exports) == 2


def test_an_open_size_defaults_to_the_keyword_of_its_name(file: Path, exports: list[int]) -> None:
    shapes = [
        loaded.module.main.args[0].type.shape for loaded in load_each(f"{file}:by_keyword", [{}, {"seq": 9}], "f32")
    ]
    assert shapes == [(2, 5), (2, 9)]
    assert len(exports) == 1


def test_an_exported_program_is_a_source(file: Path) -> None:
    loaded = load(f"{file}:exported", "f32", {"batch": 3, "seq": 5})
    assert loaded.program is not None and dims_of(loaded.program) == {}
    same_as_eager(loaded)


def test_a_saved_program_has_the_names_that_torch_gave(file: Path) -> None:
    batch, seq = re.findall(r"--dim (s\d+)=N", message(UnknownDim, f"{file}:saved"))
    loaded = load(f"{file}:saved", "f32", {batch: 3, seq: 5})
    assert loaded.module.main.args[0].type.shape == (3, 5)
    same_as_eager(loaded)


def test_sizes_that_follow_from_others(file: Path) -> None:
    loaded = load(f"{file}:pairs", "f32", {"batch": 3, "half": 4, "s94": 5})
    assert [a.type.shape for a in loaded.module.main.args] == [(3, 8, 4), (3, 5, 4)]
    same_as_eager(loaded)
    loaded = load(f"{file}:images", "f32", {"size": 20})
    assert [o.type.shape for o in loaded.module.main.outputs] == [(2, 4), (2, 4, 10, 10)]
    same_as_eager(loaded)


def test_a_dim_that_is_missing_or_unknown(file: Path) -> None:
    assert message(UnknownDim, f"{file}:net") == (
        "the program leaves batch (axis 0 of ids); seq (axis 1 of ids) open: --dim batch=N --dim seq=N"
    )
    assert "seq (axis 1 of ids) open: --dim seq=N" in message(UnknownDim, f"{file}:net", batch=2)
    unknown = message(UnknownDim, f"{file}:net", batch=2, sec=4)
    assert unknown == "the program has no dim 'sec'; did you mean 'seq'?; it has batch, seq"


def test_a_size_out_of_range_or_against_a_guard(file: Path) -> None:
    assert message(ViolatedGuard, f"{file}:net", batch=2, seq=5000) == (
        "5000 is out of range for seq (axis 1 of ids): the export allows from 2 to 4096"
    )
    assert "from 0 to 1000" in message(ViolatedGuard, f"{file}:pairs", batch=2, half=501, s94=3)
    name = re.findall(r"--dim (s\d+)=N", message(UnknownDim, f"{file}:choosy"))[0]
    assert "4 is out of range" in message(ViolatedGuard, f"{file}:choosy", **{name: 4})
    assert load(f"{file}:choosy", "f32", {name: 9}).module.main.args[0].type.shape == (9,)
    assert "out of range" in message(ViolatedGuard, f"{file}:chosen", **{name: 4})


class _Even(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[0] % 2 == 0 else x


def test_a_guard_is_told_with_its_line_and_survives_saving(tmp_path: Path) -> None:
    program = torch.export.export(_Even(), (torch.ones(8),), dynamic_shapes={"x": {0: Dim.AUTO}})
    (name,) = dims_of(program)
    with pytest.raises(ViolatedGuard, match=rf"does not hold for {name}=7: it needs .*test_frontend_dynamic.py:\d+"):
        specialise(program, {name: 7})
    torch.export.save(program, tmp_path / "even.pt2")
    again = torch.export.load(tmp_path / "even.pt2")
    assert import_program(specialise(again, {name: 10})).main.args[0].type.shape == (10,)
    with pytest.raises(ViolatedGuard, match=rf"{name}=7: it needs \(L\['x'\].size\(\)\[0\] % 2\) == 0"):
        specialise(again, {name: 7})


def test_sizes_that_data_decides(file: Path) -> None:
    text = message(DataDependentShape, f"{file}:searching")
    line = line_of("        found = torch.nonzero(x > 0)")
    assert text.startswith("the size u0 is known only when the model runs: aten.nonzero.default makes it")
    assert f"open_sizes.py:{line} in search, node nonzero: found = torch.nonzero(x > 0)" in text
    text = message(ExportFailed, f"{file}:branch")
    assert f"open_sizes.py:{line_of('        return x if x.sum() > 0 else -x')}" in text and "Traceback" not in text


def test_shapes_that_torch_refuses(file: Path) -> None:
    assert "torch fixes sizes of 0 and 1" in message(ExportFailed, f"{file}:one")
    assert "n = 2*_n" in message(ExportFailed, f"{file}:too_wide")


def test_evaluation_runs_no_text() -> None:
    shapes = {"x": (4, 6), "y_0_k": (3,)}
    assert holds("(L['x'].size()[1] % 2) == 0 and not L['y'][0]['k'].size()[0] > 3", shapes)
    assert not holds("max(L['x'].size()[0], 2) < 4", shapes)
    for text in (
        "__import__('os').getcwd() == ''",
        "L['z'].size()[0] == 1",
        "L['x'].stride()[0] == 1",
        "(1).real == 1",
    ):
        with pytest.raises(Unknown):
            holds(text, shapes)
    import sympy

    s = sympy.Symbol("s", integer=True)
    assert evaluate(2 * s + s**2 // 3 - sympy.Max(s, 4), {s: 5}) == 10 + 8 - 5
    assert evaluate(s / 2, {s: 6}) == 3 and evaluate(sympy.Eq(s, 3), {s: 3}) is True
    with pytest.raises(Unknown, match="the value of s is not known"):
        evaluate(s + 1, {})
    with pytest.raises(Unknown, match="no arithmetic on sizes"):
        evaluate(sympy.gamma(s), {s: 3})
    with pytest.raises(Unknown, match="too large"):
        evaluate(sympy.Symbol("t") ** s, {s: 10**6, sympy.Symbol("t"): 2})


def run_cli(*args: str) -> int:
    return main(list(args))


def test_cost_prints_a_row_for_each_size(file: Path, capfd: Any, exports: list[int]) -> None:
    command = (
        "cost",
        f"{file}:net",
        "--target",
        "m4",
        "--fidelity",
        "analytic",
        "--dim",
        "batch=1",
        "--dim",
        "seq=4,64",
    )
    assert run_cli(*command) == 0
    rows = capfd.readouterr().out.splitlines()
    assert rows[0] == "net on m4 (analytic)"
    assert [r.split()[:2] for r in rows[1:4]] == [["batch", "seq"], ["1", "4"], ["1", "64"]]
    assert len(exports) == 1
    assert run_cli(*command, "--json", "-") == 0
    reports = json.loads(capfd.readouterr().out)
    assert [r["dims"] for r in reports] == [{"batch": 1, "seq": 4}, {"batch": 1, "seq": 64}]
    assert reports[0]["macs"] * 16 == reports[1]["macs"] > 0
    assert reports[0]["phases"]["export_s"] > 0 == reports[1]["phases"]["export_s"]


def test_other_commands_take_one_size(file: Path, capfd: Any) -> None:
    assert run_cli("run", f"{file}:net", "--target", "m4", "--dim", "seq=4,64") == 2
    assert "'seq' takes one value here" in capfd.readouterr().err
    dims = ("--dim", "batch=2", "--dim", "seq=9")
    assert run_cli("run", f"{file}:net", "--target", "m4", "--check", "--arith", "f32", *dims) == 0
    assert "all outputs match" in capfd.readouterr().out
