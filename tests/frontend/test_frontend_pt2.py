"""Archives that torch.export.save wrote, read without torch's loader: the same program, with the same numbers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from frontend_check import imported, op_names, relative_error, same_as_eager, tensor
from pt2_files import CONSTANTS, MODEL, WEIGHTS, Growing, models, rewrite, save
from tilewright.compiler.frontend.eager import example_inputs
from tilewright.compiler.frontend.errors import BadArchive, NoSuchSource, UnknownDim, UnsupportedOps
from tilewright.compiler.frontend.export import convert
from tilewright.compiler.frontend.sources import load
from tilewright.compiler.interpret import run_graph
from torch.utils import _pytree as pytree

CASES = models()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archives")
    for name, (model, args) in CASES.items():
        save(path / f"{name}.pt2", model, args)
    batch, seq = torch.export.Dim("batch"), torch.export.Dim("seq", min=4, max=512)
    save(path / "growing.pt2", Growing(), (tensor(2, 8, 8),), dynamic_shapes=({0: batch, 1: 2 * seq},))
    return path


@pytest.fixture(autouse=True)
def no_loader(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Neither torch's loader nor pickle may be called, but where a test says so."""
    if request.node.name.startswith("test_trusted"):
        return

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a loader that runs code was called")

    for owner, name in ((torch, "load"), (torch.export, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(owner, name, never)


@pytest.mark.parametrize("name", CASES)
def test_archives_give_the_numbers_of_the_model(folder: Path, name: str) -> None:
    loaded = load(str(folder / f"{name}.pt2"), dtype="f32")
    same_as_eager(loaded)
    got = run_graph(loaded.module, example_inputs(loaded))
    model = CASES[name][0] if name == "transformer" else CASES[name][0].float()
    expected = [t.numpy() for t in _outputs(model, loaded.args)]
    assert len(got) >= len(expected) > 0
    for a, b in zip(got, expected, strict=False):
        assert a.shape == b.shape and relative_error(a, b) < 1e-5


def _outputs(model: torch.nn.Module, args: tuple[Any, ...]) -> list[torch.Tensor]:
    with torch.no_grad():
        leaves = pytree.tree_leaves(copy.deepcopy(model)(*copy.deepcopy(args)))
    return [t for t in leaves if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize("name", [n for n in CASES if n != "mixed"])
def test_archives_hold_the_program_of_the_export(folder: Path, name: str) -> None:
    model, args = CASES[name]
    direct, read = imported(model, *args), load(str(folder / f"{name}.pt2"), dtype="f32")
    assert op_names(read.module) == op_names(direct.module)
    assert {k for k in read.module.parameters} == {k for k in direct.module.parameters}
    inputs = example_inputs(direct)
    for a, b in zip(run_graph(read.module, inputs), run_graph(direct.module, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_the_main_float_type_can_be_another(folder: Path, name: str) -> None:
    loaded = load(str(folder / f"{name}.pt2"), dtype="f16")
    assert all(str(a.type.dtype) != "f32" for a in loaded.module.main.args)
    same_as_eager(loaded, 2e-2)


def test_tied_weights_stay_tied(folder: Path) -> None:
    loaded = load(str(folder / "transformer.pt2"))
    assert len({"embed.weight", "head.weight"} & set(loaded.module.parameters)) == 1


def test_costing_reads_no_weights(folder: Path) -> None:
    loaded = load(str(folder / "conv.pt2"), weights=False)
    assert loaded.model is None and loaded.module.parameters["conv.weight"].is_meta
    assert op_names(loaded.module) == op_names(load(str(folder / "conv.pt2")).module)


def test_nodes_tell_the_users_line(folder: Path) -> None:
    op = next(op for op in load(str(folder / "conv.pt2")).module.main.body if op.name == "graph.conv")
    assert op.location.module == "conv" and op.location.file.endswith("pt2_files.py")


def test_open_sizes_are_bound(folder: Path) -> None:
    path = str(folder / "growing.pt2")
    for batch, seq in ((3, 5), (1, 7)):
        loaded = load(path, dtype="f32", dims={"s77": batch, "s80": seq})
        assert str(loaded.module.main.args[0].type) == f"tensor<{batch}x{2 * seq}x8xf32>"
        same_as_eager(loaded)
    with pytest.raises(UnknownDim, match=r"give --dim s77=N --dim s80=N, where the input x is \[s77, \?, 8\]"):
        load(path)
    with pytest.raises(UnknownDim, match="was exported for s80 from 4 to 512, and 600 is outside"):
        load(path, dims={"s77": 1, "s80": 600})
    with pytest.raises(UnknownDim, match="no dim 's7'; did you mean 's77'"):
        load(path, dims={"s7": 1})
    with pytest.raises(UnknownDim, match="all its sizes are fixed"):
        load(str(folder / "conv.pt2"), dims={"batch": 1})


@pytest.mark.parametrize("name", [*CASES, "growing"])
def test_trusted_archives_are_the_same_program(folder: Path, name: str) -> None:
    path, dims = str(folder / f"{name}.pt2"), {"s77": 3, "s80": 5} if name == "growing" else {}
    for dtype, tolerance in (("f32", 1e-5), ("f16", 2e-2)):
        trusted, read = load(path, dtype, dims, trust=True), load(path, dtype, dims)
        assert op_names(trusted.module) == op_names(read.module)
        assert [str(a.type) for a in trusted.module.main.args] == [str(a.type) for a in read.module.main.args]
        same_as_eager(trusted, tolerance)
    if name == "conv":
        assert torch.equal(load(path, "f32", trust=True).args[0], CASES["conv"][1][0])  # its own example


def test_missing_file(folder: Path) -> None:
    with pytest.raises(NoSuchSource, match=r"no such file: .*cnv.pt2; did you mean 'conv.pt2'\?"):
        load(str(folder / "cnv.pt2"))


def test_all_unsupported_ops_are_told_with_their_lines(folder: Path, tmp_path: Path) -> None:
    def edit(program: Any) -> None:
        for node in program["graph_module"]["graph"]["nodes"]:
            if node["target"].startswith(("torch.ops.aten.linear", "torch.ops.aten.relu_")):
                node["target"] = node["target"].replace("torch.ops.aten", "torch.ops.mylib")

    with pytest.raises(UnsupportedOps) as caught:
        load(str(rewrite(folder / "conv.pt2", tmp_path / "x.pt2", {MODEL: edit})))
    assert {n.target for n in caught.value.nodes} == {"mylib.linear.default", "mylib.relu_.default"}
    assert "pt2_files.py" in str(caught.value) and "in fc, node linear" in str(caught.value)


def test_what_was_pickled_is_refused_with_the_way_out(folder: Path, tmp_path: Path) -> None:
    def pickled(config: Any) -> None:
        config["config"]["fc.weight"]["use_pickle"] = True

    for name in (WEIGHTS, CONSTANTS):
        edit = pickled if name == WEIGHTS else lambda c: c["config"]["scale"].update(use_pickle=True)
        with pytest.raises(BadArchive, match=r"is a pickled object, and unpickling runs code.*--trust"):
            load(str(rewrite(folder / "conv.pt2", tmp_path / "x.pt2", {name: edit})))
    with pytest.raises(BadArchive, match=r"its weights are pickled, as older versions of torch did.*--trust"):
        load(str(rewrite(folder / "conv.pt2", tmp_path / "x.pt2", members={"data/weights/model.pt": b"x"})))


def test_another_version_of_the_schema_is_told(folder: Path, tmp_path: Path) -> None:
    def older(program: Any) -> None:
        program["schema_version"] = {"major": 7, "minor": 3}
        program["graph_module"] = {}

    with pytest.raises(BadArchive, match=r"version 7\.3 of torch's export schema, and version 8 can be read"):
        load(str(rewrite(folder / "conv.pt2", tmp_path / "x.pt2", {MODEL: older})))


class Unsigned(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.uint16).to(x.dtype) * 2


class Float8(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.float8_e4m3fn).to(x.dtype) + 1


@pytest.mark.parametrize("model, told", [(Unsigned(), "a tensor of uint16"), (Float8(), "a tensor of float8_e4m3fn")])
def test_types_that_the_ir_lacks_are_told_with_their_lines(tmp_path: Path, model: torch.nn.Module, told: str) -> None:
    args = (torch.ones(2),)
    path = save(tmp_path / "x.pt2", model, args)
    for source in (lambda: imported(copy.deepcopy(model), *args), lambda: load(str(path))):
        with pytest.raises(UnsupportedOps, match=told) as caught:
            source()
        assert "test_frontend_pt2.py:" in str(caught.value)


def test_conversion_keeps_complex_numbers() -> None:
    model = torch.nn.Linear(2, 2)
    model.register_buffer("turn", torch.tensor([1j]))
    converted = convert(model, (), {}, "f16")[0]
    assert (converted.weight.dtype, converted.turn.dtype) == (torch.float16, torch.complex64)


@pytest.mark.parametrize(
    "source, told",
    [
        ("net.onnx", "ONNX is not supported; export the PyTorch model"),
        ("net.pth", "holds weights, not a program"),
        ("net.safetensors", "holds weights, not a program"),
    ],
)
def test_files_of_other_kinds(source: str, told: str) -> None:
    with pytest.raises(NoSuchSource, match=told):
        load(source)
