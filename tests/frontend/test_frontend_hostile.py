"""Archives that are broken, or that were made to do harm: no code runs, each ends in one message, little is used."""

from __future__ import annotations

import copy
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from frontend_check import integers, tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from pt2_files import CONSTANTS, MODEL, WEIGHTS, ConvNet, Growing, rewrite, save
from tilewright.compiler.cli import main
from tilewright.compiler.frontend.errors import BadArchive, SourceError, UnsupportedOps
from tilewright.compiler.frontend.pt2.operators import resolve
from tilewright.compiler.frontend.pt2.symbols import NoValue, evaluate
from tilewright.compiler.frontend.sources import load

pytestmark = pytest.mark.usefixtures("own_temporary_folder")
Edit = Callable[[Any], Any]
SAMPLES = "data/sample_inputs/model.pt"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hostile") / "good.pt2"
    return save(path, ConvNet().eval(), (tensor(2, 3, 8, 8), integers(0, 2, 2)))


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("growing") / "growing.pt2"
    dims = ({0: torch.export.Dim("batch"), 1: 2 * torch.export.Dim("seq", min=4)},)
    return save(path, Growing(), (tensor(2, 8, 8),), dynamic_shapes=dims)


@pytest.fixture(scope="module")
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For the files that messages name."""
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("details"))
    yield
    tempfile.tempdir = before


def refused(path: Path, told: str, kind: type[SourceError] = BadArchive, **options: Any) -> str:
    with pytest.raises(kind, match=told) as caught:
        load(str(path), **options)
    text = str(caught.value)
    assert "Traceback" not in text and all(c.isprintable() or c == "\n" for c in text)
    return text


def graph_of(program: Any) -> Any:
    return program["graph_module"]["graph"]


def node_of(program: Any, name: str) -> Any:
    return next(n for n in graph_of(program)["nodes"] if n["name"] == name)


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


# ---------------------------------------------------------------- the zip


def test_files_that_are_no_archive(tmp_path: Path, archive: Path) -> None:
    path = tmp_path / "x.pt2"
    for data in (b"", b"PK", b"hello" * 100, b"PK\x05\x06" + b"\xff" * 18, os.urandom(2000)):
        path.write_bytes(data)
        refused(path, "it is no zip archive, or it is cut off")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "x")
    refused(path, "not in one folder")
    with zipfile.ZipFile(path, "w") as file:
        pass
    refused(path, "not in one folder")


def test_every_cut_is_told(archive: Path, tmp_path: Path) -> None:
    data, path = archive.read_bytes(), tmp_path / "x.pt2"
    for cut in range(1, len(data), len(data) // 40):
        path.write_bytes(data[:cut])
        refused(path, "cut off|damaged|not where|behind the end")


def test_damage_anywhere_is_told_or_harmless(archive: Path, tmp_path: Path) -> None:
    data, path = archive.read_bytes(), tmp_path / "x.pt2"
    for at in range(0, len(data), len(data) // 60):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            load(str(path))
        except SourceError:
            continue


def test_compressed_members_are_refused(archive: Path, tmp_path: Path) -> None:
    bomb = {"data/weights/weight_0": b"\0" * 50_000_000}
    path = rewrite(archive, tmp_path / "x.pt2", members=bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    refused(path, "is compressed or encrypted, which torch.export.save does not do")


def _directory(data: bytes) -> int:
    return struct.unpack("<I", data[-6:-2])[0]


def test_declared_sizes_are_those_of_the_file(archive: Path, tmp_path: Path) -> None:
    path = rewrite(archive, tmp_path / "x.pt2")
    data = bytearray(path.read_bytes())
    start = _directory(bytes(data))
    assert data[start : start + 4] == b"PK\x01\x02"
    for compressed, size in ((2**31, 2**31), (100, 2**31), (2**31, 100)):
        changed = bytearray(data)
        changed[start + 20 : start + 28] = struct.pack("<II", compressed, size)
        path.write_bytes(changed)
        refused(path, "claims? .* bytes|cut off")
    changed = bytearray(data)
    changed[-10:-6] = struct.pack("<I", 2**31 - 1)  # the size of the table of contents
    path.write_bytes(changed)
    refused(path, "no zip archive")


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "a/../../b", "c:\\x", "a\x1b[2Jb", "x" * 3000, "a//b"])
def test_odd_names_are_refused(archive: Path, tmp_path: Path, name: str) -> None:
    refused(rewrite(archive, tmp_path / "x.pt2", members={name: b"x"}), "of a member is not allowed")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pt2"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_names_and_other_roots_are_refused(archive: Path, tmp_path: Path) -> None:
    path = rewrite(archive, tmp_path / "x.pt2")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("m/archive_format", "pt2")
    refused(path, "it holds archive_format twice")
    path = rewrite(archive, tmp_path / "y.pt2")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("other/x", "pt2")
    refused(path, "not in one folder")
    refused(rewrite(archive, tmp_path / "z.pt2", members={"models/b.json": b"{}"}), "it holds several programs")
    refused(rewrite(archive, tmp_path / "z.pt2", members={"byteorder": b"big"}), "little-endian")


def test_too_many_members_are_refused(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.pt2"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(50_001):
            file.writestr(f"m/{i}", b"")
    refused(path, "members; the limit is 50,000")


def test_payloads_point_into_the_archive(archive: Path, tmp_path: Path) -> None:
    for path_name in ("../../models/model.json", "/etc/passwd", "..\\x", ""):

        def elsewhere(config: Any, path_name: str = path_name) -> None:
            config["config"]["fc.weight"]["path_name"] = path_name

        refused(rewrite(archive, tmp_path / "x.pt2", {WEIGHTS: elsewhere}), "is not what torch writes")
    edit: Edit = lambda c: c["config"]["fc.weight"].update(path_name="weight_999")  # noqa: E731
    refused(rewrite(archive, tmp_path / "x.pt2", {WEIGHTS: edit}), "data/weights/weight_999 is missing")


# ---------------------------------------------------------------- shapes


def sizes(*ns: int) -> dict[str, Any]:
    strides = [1]
    for n in reversed(ns[1:]):
        strides.insert(0, strides[0] * max(n, 1))
    return {"sizes": [{"as_int": n} for n in ns], "strides": [{"as_int": min(s, 2**63 - 1)} for s in strides]}


@pytest.mark.parametrize("shape", [(50_000, 50_000), (2**40, 1), (2**62, 2**62), (2**31, 2**31, 2**31)])
def test_huge_inputs_are_refused_before_they_are_made(archive: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    edit: Edit = lambda p: graph_of(p)["tensor_values"]["x"].update(sizes(*shape))  # noqa: E731
    refused(rewrite(archive, tmp_path / "x.pt2", {MODEL: edit}), r"the input x has .* bytes; the limit is")


def test_huge_intermediates_are_refused(archive: Path, tmp_path: Path) -> None:
    def edit(program: Any) -> None:
        shape = {"name": "repeats", "arg": {"as_ints": [50_000, 50_000, 1, 1]}, "kind": 1}
        node = node_of(program, "relu_")
        node["target"] = "torch.ops.aten.repeat.default"
        node["inputs"].append(shape)

    text = refused(rewrite(archive, tmp_path / "x.pt2", {MODEL: edit}), "node relu_ .* the limit is|says that it makes")
    assert "repeat" in text


def test_stored_tensors_fit_their_bytes(archive: Path, tmp_path: Path) -> None:
    for change, told in (
        (sizes(50_000, 50_000), "bytes; the limit is|bytes are|are stored"),
        (sizes(4, 9), "needs 144 bytes, but 128 are stored"),
        ({"storage_offset": {"as_int": 2**40}}, "the limit is"),
        ({"storage_offset": {"as_int": -1}}, "make no tensor"),
        ({"sizes": [{"as_int": 2**30}], "strides": [{"as_int": 0}]}, "repeats 128 stored bytes"),
        ({"sizes": [{"as_int": 4}]}, "make no tensor"),
        ({"dtype": 99}, "unknown element type 99"),
        ({"layout": 1}, "not a dense tensor"),
    ):
        edit: Edit = lambda c, change=change: c["config"]["fc.weight"]["tensor_meta"].update(change)  # noqa: E731
        refused(rewrite(archive, tmp_path / "x.pt2", {WEIGHTS: edit}), told)


def test_ops_that_make_very_many_parts_are_refused(archive: Path, tmp_path: Path) -> None:
    def edit(program: Any) -> None:
        graph = graph_of(program)
        graph["tensor_values"]["x"].update(sizes(100_000_000, 3, 1, 1))
        graph["nodes"] = [
            {
                "target": "torch.ops.aten.unbind.int",
                "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "x"}}, "kind": 1}],
                "outputs": [{"as_tensors": [{"name": "relu_"}]}],
                "metadata": {},
            }
        ]
        graph["outputs"] = [{"as_tensor": {"name": "relu_"}}]

    started = time.perf_counter()
    refused(rewrite(archive, tmp_path / "x.pt2", {MODEL: edit}), "cuts a tensor into 100,000,000 parts", weights=False)
    assert time.perf_counter() - started < 5


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


# ---------------------------------------------------------------- every place, any change

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        [0, 1, -1, 2**31, 2**63 - 1, -(2**63), 1e308, float("inf"), float("nan"), "", "x", "as_int", [], {}]
    ),
    st.text(max_size=8),
    st.lists(st.integers(-3, 2**33), max_size=4),
    st.fixed_dictionaries({}, optional={k: st.integers(-2, 9) for k in ("as_int", "as_tensor", "as_none", "as_ints")}),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if key not in ("stack_trace", "torch_fn", "module_call_graph"):
            yield from places(child, (*at, key))


def changed(content: Any, at: tuple[Any, ...], how: str, value: Any) -> Any:
    content = copy.deepcopy(content)
    owner = content
    for key in at[:-1]:
        owner = owner[key]
    key = at[-1]
    if how == "set":
        owner[key] = value
    elif how == "delete":
        del owner[key]
    elif how == "wrap":
        owner[key] = [owner[key]]
    elif isinstance(owner, list):
        owner.insert(0, copy.deepcopy(owner[key]))
    else:
        owner[f"{key}_"] = owner.pop(key)
    return content


CONTENTS: dict[str, Any] = {}  # of the JSON members, when `rewritten` has read them


@pytest.fixture(scope="module")
def rewritten(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Path]:
    path = tmp_path_factory.mktemp("changed") / "x.pt2"
    with zipfile.ZipFile(archive) as file:
        folder = file.namelist()[0].partition("/")[0]
        CONTENTS.update({name: json.loads(file.read(f"{folder}/{name}")) for name in (MODEL, WEIGHTS, CONSTANTS)})
    return lambda member, content: rewrite(archive, path, members={member: json.dumps(content).encode()})


CHANGES = st.tuples(
    st.sampled_from([MODEL, MODEL, MODEL, WEIGHTS, CONSTANTS]),
    st.lists(
        st.tuples(st.integers(0, 2**20), st.sampled_from(["set", "set", "delete", "wrap", "more"]), VALUES),
        min_size=1,
        max_size=3,
    ),
)


@settings(max_examples=400, deadline=5000)
@given(change=CHANGES)
def test_any_change_to_the_json_is_told_or_harmless(rewritten: Callable[[str, Any], Path], change: Any) -> None:
    member, edits = change
    content = None
    for number, how, value in edits:
        content = CONTENTS[member] if content is None else content
        found = list(places(content))
        if found:
            content = changed(content, found[number % len(found)], how, value)
    try:
        load(str(rewritten(member, content)))
    except SourceError as error:
        assert "internal" not in str(error) and len(str(error)) < 4000


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
