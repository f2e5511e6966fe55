"""Archives whose zip is broken or lies, and tensors of other sizes than their bytes."""

from __future__ import annotations

import os
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hostile_check import Edit, graph_of, node_of, refused, sizes
from pt2_files import MODEL, WEIGHTS, rewrite
from tilewright.compiler.frontend.errors import SourceError
from tilewright.compiler.frontend.sources import load

pytestmark = pytest.mark.usefixtures("own_temporary_folder")


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
