"""Quantised models from torchao and PT2E: eager's numbers at every level, and what of them is stored and loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from frontend_check import imported, op_names, relative_error, same_as_eager, tensor
from quantized_models import (
    IMAGE,
    Attention,
    Convs,
    Linears,
    X,
    bytes_at,
    llama,
    made,
    pt2e,
    stored,
    stored_bytes,
    torchao,
    without_logs,
)
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.frontend.errors import BadArchive, ExportFailed, MissingPackage
from tilewright.compiler.frontend.importer import import_program
from tilewright.compiler.frontend.palettes import palettise
from tilewright.compiler.frontend.pt2 import operators
from tilewright.compiler.frontend.sources import Loaded, load
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.pipeline import compile_module, copy_module
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("torchao", reason="torchao makes the models; what they are made of is tested without it")

M4 = load_target("m4")
RUN: dict[str, Callable[..., list[Any]]] = {"graph": run_graph, "tile": run_tile, "soc": run_soc}
ALONE = {"dequantize", "lookup"}  # ops that should be in the loop of their product


class Checked:
    """A program at every level: its loops, by label, and what a run of it costs."""

    def __init__(self, loaded: Loaded, f32: float = 1e-5, native: float = 2e-2, engines: tuple[str, ...] = ()):
        inputs, expected = example_inputs(loaded), run_eager(loaded, "f32")
        self.module = copy_module(loaded.module)
        for level, run in RUN.items():
            compile_module(self.module, M4, engines, level)
            if level == "tile":
                loops = [op for op in self.module.main.body if isinstance(op, tile.Loop)]
                self.labels = [str(op.attributes["label"]) for op in loops]
            if level == "graph":
                self.products = [op for op in self.module.walk() if isinstance(op, (graph.Matmul, graph.Conv))]
            for arith, tolerance in (("f32", f32), ("native", native)):
                for got, want in zip(run(self.module, inputs, arith), expected, strict=True):
                    assert relative_error(got, want) <= tolerance, (level, arith)
        self.timing = simulate(self.module, M4)

    @property
    def integer_products(self) -> int:
        return sum(op.operands[0].type.dtype in ("i8", "ui8") for op in self.products)


# ---------------------------------------------------------------- torchao

BIAS = 96 * 2  # bytes
ROWS, GROUPS = 96 + 32, 96 * 4 + 32 * 6  # scales of a row each, and of groups of 16
SCHEMES: dict[str, tuple[int, int, int, int]] = {  # bits of a weight, scales, bytes of a scale, bytes of other scales
    "int8 weights": (8, ROWS, 4, 0),
    "int8 weights in groups": (8, GROUPS, 4, 0),
    "weights": (4, GROUPS, 2, 0),
    "weights per channel": (4, ROWS, 2, 0),
    "int8 dynamic": (8, ROWS, 4, 0),
    "int8 static": (8, ROWS, 4, 4),  # one of the activations, in f32 for both layers or in f16 for each
    "dynamic": (4, GROUPS, 2, 0),
    "dynamic per channel": (4, ROWS, 2, 0),
}


@pytest.mark.parametrize("unwrap", [False, True], ids=["subclass", "unwrapped"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_torchao(scheme: str, unwrap: bool) -> None:
    bits, scales, width, others = SCHEMES[scheme]
    loaded = imported(torchao(made(Linears), scheme, unwrap=unwrap), X, dtype="f16")
    scale_bytes = scales * (2 if unwrap else width)  # what is plain becomes f16, as all floats do
    assert stored_bytes(loaded) == bytes_at(bits, (96, 64), (32, 96)) + scale_bytes + others + BIAS
    checked = Checked(loaded)
    products = [label for label in checked.labels if "matmul" in label]
    assert len(products) == 2
    assert not ALONE & {label for label in checked.labels if "dequantize" in label and "matmul" not in label}
    assert checked.integer_products == (2 if scheme in ("int8 dynamic", "int8 static") else 0)


@pytest.mark.parametrize("bits", range(1, 9))
def test_torchao_weights_of_few_bits(bits: int) -> None:
    """5 and 7 bits have no dtype of their own: 6 bits and a byte hold them."""
    wide = {5: 6, 7: 8}.get(bits, bits)
    loaded = imported(torchao(made(Linears), "weights", bits=bits), X, dtype="f16")
    scales = 2 * (96 * 4 + 32 * 6)
    zeros = stored_bytes(loaded) - bytes_at(wide, (96, 64), (32, 96)) - scales - BIAS
    assert zeros == 0
    checked = Checked(loaded)
    assert checked.labels == ["dequantize+matmul+relu", "dequantize+matmul"]


def test_integers_have_the_numbers_of_eager_exactly() -> None:
    """One layer: nothing has been rounded before it that could round otherwise."""
    for scheme in ("int8 dynamic", "int8 static", "dynamic"):
        model = torchao(made(nn.Sequential, made(nn.Linear, 64, 32)), scheme)
        same_as_eager(imported(model, X), 1e-6)


def test_the_unsigned_detour_of_a_cpu_is_undone() -> None:
    """torchao adds 128 to the activations where the exporting machine multiplies unsigned by signed."""
    loaded = imported(torchao(made(Linears), "int8 dynamic"), X)
    checked = Checked(loaded)
    assert [op.operands[0].type.dtype for op in checked.products] == ["i8", "i8"]
    assert not any("sub" in label for label in checked.labels)


@pytest.mark.parametrize("scheme", ["int8 weights", "int8 dynamic", "weights", "dynamic"])
@pytest.mark.parametrize("where", ["meta", "fake"])
def test_torchao_without_data(scheme: str, where: str) -> None:
    def model() -> Any:
        return torchao(Linears().eval(), scheme)

    if where == "meta":
        with torch.device("meta"):
            net, x = model(), torch.empty(5, 64)
    else:
        with FakeTensorMode():
            net, x = model(), torch.empty(5, 64)
    loaded = imported(net, x, dtype="f16")
    real = imported(torchao(made(Linears), scheme), X, dtype="f16")
    both = [{k: t for k, t in stored(each).items() if "zero_point" not in k} for each in (loaded, real)]
    assert both[0] == both[1]  # zeros that are known to be zero are left out
    compile_module(loaded.module, M4, (), "soc")
    assert simulate(loaded.module, M4).latency_ps > 0


def test_torchao_with_an_open_size() -> None:
    model = torchao(made(Linears), "weights")
    batch = torch.export.Dim("rows", min=2, max=64)
    program = torch.export.export(model, (X,), dynamic_shapes=({0: batch},), strict=False)
    from tilewright.compiler.frontend.specialise import specialise

    x = tensor(11, 64)
    (got,) = run_graph(import_program(specialise(program, {"rows": 11})), [x.numpy()])
    assert relative_error(got, model(x).detach().numpy()) < 1e-5


# ---------------------------------------------------------------- PT2E

PT2E: dict[str, tuple[Any, torch.Tensor, int]] = {  # model, input, products with weights
    "linears": (Linears, X, 2),
    "convs": (Convs, IMAGE, 4),
    "attention": (Attention, tensor(2, 7, 32), 2),
}


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "not folded"])
@pytest.mark.parametrize("name", PT2E)
def test_pt2e_static(name: str, fold: bool) -> None:
    """All products multiply integers, and nothing of the quantised weights is computed as the program runs."""
    kind, x, products = PT2E[name]
    loaded = imported(pt2e(made(kind), x, fold=fold), x, dtype="f16")
    checked = Checked(loaded)
    assert checked.integer_products == products
    assert not any(label.startswith("dequantize") for label in checked.labels)
    if fold:
        weights = [t for t in stored(loaded).values() if t.endswith("i8")]
        assert len(weights) == products


@pytest.mark.parametrize("name", PT2E)
def test_pt2e_dynamic(name: str) -> None:
    kind, x, products = PT2E[name]
    loaded = imported(pt2e(made(kind), x, dynamic=True), x, dtype="f16")
    checked = Checked(loaded)
    assert sum(op.operands[1].type.rank == 2 or isinstance(op, graph.Conv) for op in checked.products) == products
    assert checked.integer_products == {"convs": 2}.get(name, products)  # where padding reads a zero point, it is f16


@pytest.mark.parametrize("dynamic", [False, True])
def test_an_exported_program_of_pt2e_keeps_its_type(dynamic: bool) -> None:
    program = torch.export.export(pt2e(made(Convs), IMAGE, dynamic=dynamic), (IMAGE,), strict=False)
    loaded = Loaded("callable", "m", import_program(program), program.module(check_guards=False), (IMAGE,), {}, program)
    same_as_eager(loaded)


# ---------------------------------------------------------------- whole networks


def plain() -> Loaded:
    model, inputs = llama()
    return imported(model, dtype="f16", **inputs)


LLAMAS: dict[str, tuple[Callable[[Any], Any], float, float]] = {  # change, most bytes of f16's, tolerance in f32
    "int8 weights": (lambda m: torchao(m, "int8 weights"), 0.6, 1e-5),
    "4 bits in groups of 16": (lambda m: torchao(m, "weights"), 0.4, 1e-5),
    "4 bits in groups of 16, unwrapped": (lambda m: torchao(m, "weights", unwrap=True), 0.4, 1e-5),
    # Sums in another order move a number into the next of 255 steps: eager differs by 1e-2 if weights change by 3e-7.
    "int8 dynamic": (lambda m: torchao(m, "int8 dynamic"), 0.6, 2e-2),
    "palettes of 3 bits": (lambda m: palettise(m, 3), 0.3, 1e-5),
    "palettes of 4 bits for 8 channels": (lambda m: palettise(m, 4, 8), 0.5, 1e-5),
}


@pytest.mark.parametrize("name", LLAMAS)
def test_llama(name: str) -> None:
    change, share, tolerance = LLAMAS[name]
    before = plain()
    model, inputs = llama()
    loaded = imported(change(model), dtype="f16", **inputs)
    assert stored_bytes(loaded) < share * stored_bytes(before)
    checked = Checked(loaded, f32=tolerance)
    assert not ALONE & set(checked.labels)


class Logits(nn.Module):
    """A language model as a function of its tokens, which PT2E can trace."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids).logits


@pytest.mark.parametrize("dynamic", [False, True])
def test_llama_by_pt2e(dynamic: bool) -> None:
    model, inputs = llama()
    ids = inputs["input_ids"]
    loaded = imported(pt2e(Logits(model).eval(), ids, dynamic=dynamic), ids, dtype="f16")
    checked = Checked(loaded, f32=2e-2)
    assert checked.integer_products == 15  # 7 a layer, and the head


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda m: torchao(m, "int8 weights"), 0.56),
        (lambda m: torchao(m, "weights", group=32), 0.35),
        (lambda m: palettise(m, 2), 0.15),
        (lambda m: palettise(m, 6), 0.4),
    ],
    ids=["int8", "4 bits in groups", "palettes of 2 bits", "palettes of 6 bits"],
)
def test_weights_are_read_from_memory_as_they_are_stored(change: Any, most: float) -> None:
    """A product of one row with weights that no cache holds yet."""

    def dram(model: Any) -> int:
        with torch.device("meta"):
            loaded = imported(model, torch.empty(1, 2048), dtype="f16")
        first_run = M4.override("memory.slc.retained", "0")
        compile_module(loaded.module, first_run, (), "soc")
        return simulate(loaded.module, first_run).dram_read_bytes

    def net() -> Any:
        with torch.device("meta"):
            return nn.Sequential(nn.Linear(2048, 6144), nn.ReLU(), nn.Linear(6144, 2048)).eval()

    before = dram(net())
    assert before > 2 * 2048 * 6144 * 2
    assert dram(change(net())) < most * before


# ---------------------------------------------------------------- archives


def saved(path: Path, model: Any, x: torch.Tensor) -> Path:
    with torch.no_grad():
        torch.export.save(torch.export.export(model, (x,), strict=False), path)
    return path


@pytest.mark.parametrize("dtype", ["f16", "f32"])
@pytest.mark.parametrize("scheme", ["int8 weights", "int8 dynamic", "weights", "dynamic"])
def test_an_archive_of_a_torchao_model(tmp_path: Path, scheme: str, dtype: str) -> None:
    path = saved(tmp_path / "model.pt2", torchao(made(Linears), scheme, unwrap=True), X)
    loaded = load(str(path), dtype)
    same_as_eager(loaded, 1e-5, "f32")
    assert stored_bytes(loaded) == stored_bytes(load(str(path), dtype, weights=False)) - _zero_points(path, dtype)


def _zero_points(path: Path, dtype: str) -> int:
    """Bytes of the zero points that an archive without data keeps, as they may not be zero."""
    kept = stored(load(str(path), dtype, weights=False)), stored(load(str(path), dtype))
    return sum(bytes_at(8, [int(n) for n in t.split("x")[:-1]]) for k, t in kept[0].items() if k not in kept[1])


@pytest.mark.parametrize("dynamic", [False, True])
def test_an_archive_of_a_pt2e_model(tmp_path: Path, dynamic: bool) -> None:
    path = saved(tmp_path / "model.pt2", pt2e(made(Convs), IMAGE, dynamic=dynamic), IMAGE)
    for dtype in ("f16", "f32"):
        loaded = load(str(path), dtype)
        same_as_eager(loaded, 1e-5, "f32")
        assert sum(t.endswith("xi8") for t in stored(loaded).values()) == 4


def test_an_archive_of_tensor_subclasses_needs_trust(tmp_path: Path) -> None:
    """torch pickles them, and pickles run code."""
    path = saved(tmp_path / "model.pt2", torchao(made(Linears), "weights"), X)
    with pytest.raises(BadArchive, match=r"pickled object.*torchao\.utils\.unwrap_tensor_subclass.*--trust"):
        load(str(path))
    for dtype in ("f16", "f32"):
        loaded = load(str(path), dtype, trust=True)
        same_as_eager(loaded, 1e-5, "f32")
        assert stored(loaded)["a.weight.qdata"] == "96x64xi4"


def test_an_archive_without_torchao_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "model.pt2", torchao(made(Linears), "weights", unwrap=True), X)
    operators.resolve.cache_clear()
    monkeypatch.setitem(sys.modules, operators.LIBRARIES["torchao"], None)
    with pytest.raises(MissingPackage, match=r"uses torchao\.dequantize_affine.* not installed.*pip install torchao"):
        load(str(path))
    operators.resolve.cache_clear()


def test_only_known_operators_load_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file cannot have a module imported by naming it."""
    asked: list[str] = []
    monkeypatch.setattr(operators.importlib, "import_module", asked.append)
    for name in (
        "torchao.anything.default",
        "os.system.default",
        "torchvision.nms.default",
        "tilewright.other.default",
    ):
        assert operators.resolve(f"torch.ops.{name}") is None
    assert not asked


# ---------------------------------------------------------------- what torch itself cannot export


def test_static_quantisation_with_a_scale_of_another_rank() -> None:
    """torchao wants a scale with as many axes as the activation; the message says where it failed."""
    model = torchao(made(Attention), "int8 static")
    with pytest.raises(ExportFailed, match="AssertionError"):
        imported(model, tensor(2, 7, 32))


def test_a_subclass_that_is_left_whole_is_refused() -> None:
    """A program that reads a weight itself, and not the tensors inside it."""
    from tilewright.compiler.frontend.errors import UnsupportedOps

    with without_logs():
        model = torchao(made(Linears), "weights")
        program = torch.export.export(model, (X,), strict=False)
    node = next(n for n in program.graph.nodes if "access_subclass" in str(n.target))
    with program.graph.inserting_after(node):
        clone = program.graph.call_function(torch.ops.aten.clone.default, (node.args[0],))
    clone.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(clone)
    with pytest.raises(UnsupportedOps, match="a parameter of the class IntxUnpackedToInt8Tensor"):
        import_program(program)


def test_names() -> None:
    """A dequantised weight is one op of the graph."""
    loaded = imported(torchao(made(Linears), "weights"), X)
    assert op_names(loaded.module) == ["dequantize", "matmul", "relu", "dequantize", "matmul"]
