"""Archives that are broken, or that were made to do harm: no code runs, each ends in one message, little is used."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from frontend_check import tensor
from hostile_check import Edit, graph_of, node_of, refused, sizes
from pt2_files import CONSTANTS, MODEL, WEIGHTS, Growing, rewrite, save
from tilewright.compiler.cli import main
from tilewright.compiler.frontend.errors import SourceError, UnsupportedOps
from tilewright.compiler.frontend.pt2.operators import resolve
from tilewright.compiler.frontend.pt2.symbols import NoValue, evaluate
from tilewright.compiler.frontend.sources import load

pytestmark = pytest.mark.usefixtures("own_temporary_folder")
SAMPLES = "data/sample_inputs/model.pt"


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("growing") / "growing.pt2"
    dims = ({0: torch.export.Dim("batch"), 1: 2 * torch.export.Dim("seq", min=4)},)
    return save(path, Growing(), (tensor(2, 8, 8),), dynamic_shapes=dims)


# ---------------------------------------------------------------- code


class Payload:
    """Writes a file where it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_pickles_are_never_loaded(archive: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    bomb = pickle.dumps(Payload(marker))
    pickle.loads(bomb)
    assert marker.exists()  # it does what it is meant to
    marker.unlink()
    path = rewrite(archive, tmp_path / "x.pt2", members={SAMPLES: bomb})
    load(str(path))  # example inputs are made anew
    for edit_name, key, where in (
        (WEIGHTS, "fc.weight", "data/weights/evil"),
        (CONSTANTS, "scale", "data/constants/evil"),
    ):

        def edit(config: Any, key: str = key) -> None:
            config["config"][key] |= {"use_pickle": True, "path_name": "evil"}

        refused(rewrite(archive, tmp_path / "y.pt2", {edit_name: edit}, {where: bomb}), "unpickling runs code")
    refused(rewrite(archive, tmp_path / "z.pt2", members={"data/weights/model.pt": bomb}), "pickled")
    assert not marker.exists()


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('touch {marker}')",
        "Symbol('s77', positive=True, integer=True) + __import__('os').system('touch {marker}')",
        "(lambda: open('{marker}', 'w'))()",
        "Symbol.__class__.__mro__",
        "[c for c in ().__class__.__base__.__subclasses__()]",
        "Integer(__import__('os').system('touch {marker}'))",
        "Pow(Integer(10), Pow(Integer(10), Integer(10)))",
        "(" * 3000 + ")" * 3000,
        "-" * 4000 + "1",
        "Add(" * 900 + ")" * 900,
    ],
)
def test_expressions_are_not_evaluated(growing: Path, tmp_path: Path, expression: str) -> None:
    marker = tmp_path / "marker"
    expression = expression.format(marker=marker)

    def edit(program: Any) -> None:
        graph_of(program)["tensor_values"]["x"]["sizes"][0] = {"as_expr": {"expr_str": expression}}
        program["guards_code"] = [expression]

    started = time.perf_counter()
    path = rewrite(growing, tmp_path / "x.pt2", {MODEL: edit})
    for dims in ({"s77": 2, "s80": 4}, {"s80": 4}):
        with pytest.raises(SourceError):
            load(str(path), dims=dims)
    with pytest.raises(NoValue):
        evaluate(expression, {"s77": 2})
    assert not marker.exists() and time.perf_counter() - started < 5


def test_tree_specs_and_guards_are_not_read(archive: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    code = f"__import__('os').system('touch {marker}')"
    spec = json.dumps([1, {"type": "collections.defaultdict", "context": json.dumps({"default_factory_module": code})}])

    def edit(program: Any) -> None:
        for entry in program["graph_module"]["module_call_graph"]:
            if entry["signature"]:
                entry["signature"] |= {"in_spec": spec, "out_spec": spec}
        program["guards_code"] = [code]
        program["verifiers"] = [code]

    load(str(rewrite(archive, tmp_path / "x.pt2", {MODEL: edit})))
    assert not marker.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.load",
        "torch.hub.load",
        "math.__loader__.load_module",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "builtins.eval",
        "#os:system",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten._cufft_set_plan_cache_max_size.default",
        "torch.ops.aten.__class__.__init__",
        "torch.ops.aten._dir.append",
        "torch.ops.higher_order.call_torchbind",
        "torch.ops.higher_order.triton_kernel_wrapper_functional",
        "torch.ops.prim.Print.default",
        "torch.ops.os.system.default",
        "torch.ops.c10d.send.default",
        "\x1b[2Jtorch.ops.aten.add.Tensor",
    ],
)
def test_only_known_operators_are_looked_up(archive: Path, tmp_path: Path, target: str) -> None:
    assert resolve(target) is None
    path = rewrite(archive, tmp_path / "x.pt2", {MODEL: lambda p: node_of(p, "relu_").update(target=target)})
    assert "relu_" in refused(path, "cannot be compiled yet", UnsupportedOps)


def test_names_do_not_reach_the_python_that_fx_writes(archive: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    code = f"x=open('{marker}','w')"

    def inject(value: Any) -> Any:
        if isinstance(value, dict):
            return {(code if k == "relu_" else k): inject(v) for k, v in value.items()}
        if isinstance(value, list):
            return [inject(v) for v in value]
        return code if value == "relu_" else value

    refused(rewrite(archive, tmp_path / "x.pt2", {MODEL: inject}), "should match pattern")
    for name in ("lambda", "import", "__class__", "print", "torch", "None_"):

        def rename(value: Any, name: str = name) -> Any:
            if isinstance(value, dict):
                return {k: rename(v, name) for k, v in value.items()}
            if isinstance(value, list):
                return [rename(v, name) for v in value]
            return name if value == "relu_" else value

        load(str(rewrite(archive, tmp_path / "x.pt2", {MODEL: rename})))  # odd, but harmless
    assert not marker.exists()


def test_source_lines_of_no_file_but_python_are_opened(archive: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")

    def edit(program: Any) -> None:
        for node, file in zip(
            graph_of(program)["nodes"], ("/dev/zero", str(tmp_path / "pipe.py"), "/etc/passwd"), strict=False
        ):
            node["target"] = "torch.ops.nothing.at_all.default"
            node["metadata"]["stack_trace"] = f'File "{file}", line 1, in x\n  \x1b[2J'

    text = refused(rewrite(archive, tmp_path / "x.pt2", {MODEL: edit}), "cannot be compiled", UnsupportedOps)
    assert "/dev/zero" in text and "root:" not in text


# ---------------------------------------------------------------- graphs


def test_cycles_and_names_out_of_order(archive: Path, tmp_path: Path) -> None:
    def cycle(program: Any) -> None:
        node_of(program, "conv2d")["inputs"][0]["arg"]["as_tensor"]["name"] = "relu_"

    def itself(program: Any) -> None:
        node_of(program, "relu_")["inputs"][0]["arg"]["as_tensor"]["name"] = "relu_"

    def backwards(program: Any) -> None:
        graph_of(program)["nodes"].reverse()

    for edit in (cycle, itself, backwards):
        refused(rewrite(archive, tmp_path / "x.pt2", {MODEL: edit}), "out of order, or form a cycle")

    def twice(program: Any) -> None:
        node_of(program, "relu_")["outputs"][0]["as_tensor"]["name"] = "conv2d"

    refused(rewrite(archive, tmp_path / "x.pt2", {MODEL: twice}), "two values of the program are named conv2d")


def test_lies_about_results(archive: Path, tmp_path: Path) -> None:
    def shape(program: Any) -> None:
        graph_of(program)["tensor_values"]["relu_"].update(sizes(1, 1))

    def dtype(program: Any) -> None:
        graph_of(program)["tensor_values"]["relu_"]["dtype"] = 5

    for edit in (shape, dtype):
        refused(rewrite(archive, tmp_path / "x.pt2", {MODEL: edit}), "node relu_ .* says that it makes")


def ones_like(name: str, argument: Any) -> dict[str, Any]:
    """A call with a number for one of torch's enumerations, which torch does not check."""
    inputs = [{"name": "self", "arg": {"as_tensor": {"name": "x"}}}, {"name": name, "arg": argument, "kind": 2}]
    return {"target": "torch.ops.aten.ones_like.default", "inputs": inputs}


def test_wrong_arguments(archive: Path, tmp_path: Path) -> None:
    conv = "conv2d"
    for change, told in (
        (lambda n: n["inputs"].append(n["inputs"][0]), "the argument input is given twice, in node conv2d"),
        (lambda n: n["inputs"][0].update(name="nonsense"), "the operator has no argument named 'nonsense'"),
        (lambda n: n["inputs"].pop(0), "torch cannot run node conv2d"),
        (lambda n: n["inputs"][3].update(arg={"as_string": "\x1b[2J"}), "torch cannot run node conv2d"),
        (lambda n: n["inputs"][3].update(arg={"as_ints": [2**62, -(2**63)]}), "torch cannot run node conv2d"),
        (lambda n: n["inputs"][3].update(arg={"as_custom_obj": {"name": "x"}}), "as_custom_obj is not supported"),
        (lambda n: n["inputs"][3].update(arg={"as_scalar_type": 1000}), "the element type 1000 is unknown"),
        (lambda n: n.update(ones_like("memory_format", {"as_int": -1})), "memory_format is no memory_format"),
        (lambda n: n.update(ones_like("dtype", {"as_int": 1 << 40})), "dtype is no dtype"),
        (lambda n: n.update(ones_like("layout", {"as_float": 0.5})), "layout is no layout"),
    ):
        edit: Edit = lambda p, change=change: change(node_of(p, conv)) and None  # noqa: E731
        text = refused(rewrite(archive, tmp_path / "x.pt2", {MODEL: edit}), told)
        assert len(text) < 800


def test_deep_graphs_and_deep_json(archive: Path, tmp_path: Path) -> None:
    def nest(program: Any) -> None:
        inner = copy.deepcopy(graph_of(program))
        inner["nodes"] = []
        for _ in range(20):
            outer = copy.deepcopy(inner)
            argument = {"name": "", "arg": {"as_graph": {"name": "g", "graph": inner}}, "kind": 1}
            target = "torch.ops.higher_order.wrap_with_set_grad_enabled"
            outer["nodes"] = [{"target": target, "inputs": [argument], "outputs": [], "metadata": {}}]
            inner = outer
        graph_of(program)["nodes"][:0] = inner["nodes"]

    refused(
        rewrite(archive, tmp_path / "x.pt2", {MODEL: nest}), "nested more than|recursion limit|is not what torch writes"
    )
    for text in (b"[" * 1_000_000, b'{"a":' * 200_000, b"[" * 1_000_000 + b"]" * 1_000_000):
        refused(rewrite(archive, tmp_path / "y.pt2", members={MODEL: text}), "is not what torch writes")


def test_programs_of_millions_of_nodes_are_refused(archive: Path, tmp_path: Path) -> None:
    started = time.perf_counter()
    node = {"target": "torch.ops.aten.relu.default", "inputs": [], "outputs": [], "metadata": {}}
    one = json.dumps(node).encode()

    def empty(program: Any) -> None:
        graph_of(program)["nodes"] = []

    small = rewrite(archive, tmp_path / "small.pt2", {MODEL: empty})
    with zipfile.ZipFile(small) as file:
        text = file.read(f"m/{MODEL}")
    many = text.replace(b'"nodes": []', b'"nodes": [' + b",".join([one] * 150_000) + b"]", 1)
    refused(rewrite(archive, tmp_path / "x.pt2", members={MODEL: many}), "at most 100000 items")
    refused(
        rewrite(archive, tmp_path / "x.pt2", members={MODEL: b"[" + b"1," * 7_000_000 + b"1]"}),
        "JSON values; the limit",
    )
    assert time.perf_counter() - started < 20


# ---------------------------------------------------------------- the command line


@pytest.mark.parametrize("kind", ["shape", "zip", "json", "pickle", "missing"])
def test_the_command_line_says_one_thing(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / "x.pt2"
    if kind == "shape":
        rewrite(archive, path, {MODEL: lambda p: graph_of(p)["tensor_values"]["x"].update(sizes(50_000, 50_000))})
    elif kind == "zip":
        path.write_bytes(archive.read_bytes()[:5000])
    elif kind == "json":
        rewrite(archive, path, members={MODEL: b"{"})
    elif kind == "pickle":
        rewrite(archive, path, {WEIGHTS: lambda c: c["config"]["fc.weight"].update(use_pickle=True)})
    for command in (["cost"], ["run", "--check"], ["compile"]):
        assert main([command[0], str(path), "--target", "m4", *command[1:]]) == 1
        captured = capsys.readouterr()
        assert captured.err.strip().startswith("error: ") and "Traceback" not in captured.err
        assert len(captured.err.strip().splitlines()) == 1 and captured.out == ""


def test_memory_and_time_are_bounded(archive: Path, tmp_path: Path) -> None:
    """In a process that may have little more memory than torch itself takes."""
    huge: Edit = lambda p: graph_of(p)["tensor_values"]["x"].update(sizes(1_000_000, 3, 50, 17))  # noqa: E731
    paths = [
        rewrite(archive, tmp_path / "shape.pt2", {MODEL: huge}),
        rewrite(archive, tmp_path / "json.pt2", members={MODEL: b"[" + b"[]," * 20_000_000 + b"[]]"}),
        rewrite(archive, tmp_path / "deep.pt2", members={MODEL: b"[" * 20_000_000}),
    ]
    code = (
        "import resource, sys; from tilewright.compiler.frontend.sources import load, SourceError\n"
        "import tilewright.compiler.frontend.pt2\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try: load(path)\n"
        "    except SourceError as error: print('refused')\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))

    command = [sys.executable, "-c", code, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=limit)
    assert done.returncode == 0, done.stderr
    *told, megabytes = done.stdout.split()
    assert told == ["refused"] * len(paths) and int(megabytes) < 400
