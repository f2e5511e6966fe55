"""A user's mistake gives one clear message and exit code 1 or 2; a fault of the tool's own leaves a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_model import Tilewright

M4 = ("--target", "m4")
FILES = {
    "bad.mlir": "func.func @main(%x: tensor<4xf16>) -> tensor<4xf16> {\n  %y = graph.rleu %x : tensor<4xf16>\n"
    "  func.return %y\n}\n",
    "shapes.mlir": "func.func @main(%x: tensor<4xf16>) -> tensor<5xf16> {\n  %y = graph.relu %x : tensor<5xf16>\n"
    "  func.return %y\n}\n",
    "mixed.mlir": "func.func @main(%x: tensor<4xf16>) -> tensor<4xf16> {\n  %y = graph.relu %x : tensor<4xf16>\n"
    "  %z = tile.empty : tensor<4xf16>\n  func.return %y\n}\n",
    "good.mlir": "func.func @main(%x: tensor<4xf16>) -> tensor<4xf16> {\n  %y = graph.relu %x : tensor<4xf16>\n"
    "  func.return %y\n}\n",
    "bad.toml": 'name = "bad"\ntitle = "Bad"\ninherits = "m4"\n[ane]\ncoers = 3\n',
    "broken.toml": "name = \n",
    "fails.py": "x = 1\nraise RuntimeError('not today')\n",
    "binary.mlir": "",
}


@pytest.fixture(autouse=True)
def files(tw: Tilewright) -> None:
    for name, text in FILES.items():
        Path(name).write_text(text)
    Path("binary.mlir").write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("cost resnet51 --target m4", 1, "did you mean 'resnet50'"),
        ("cost nett.py:net --target m4", 1, "no such file: nett.py; did you mean 'net.py'"),
        ("cost net.py --target m4", 1, "net.py:NAME"),
        ("cost net.py:nte --target m4", 1, "did you mean 'net'"),
        ("cost net.py:oddity --target m4", 1, r"tests\.odd\.default(.|\n)*net\.py:32.*odd\(x\) \+ 1"),
        ("cost net.py:raises --target m4", 1, r"expected input.* to have 3 channels.*net\.py:14"),
        ("cost net.py:returns_nothing --target m4", 1, "must return"),
        ("cost net.py:net --target m4min", 1, "did you mean 'm4"),
        ("cost net.py:net --target bad.toml", 1, "did you mean 'cores'"),
        ("cost net.py:net --target broken.toml", 1, r"broken\.toml: no valid TOML"),
        ("cost net.py:net --target none.toml", 1, "no target file"),
        ("cost net.py:net", 2, "--target"),
        ("cost net.py:net --target m4 --engines ane,gpi", 2, "did you mean 'gpu'"),
        ("cost net.py:net --target m4 --engines ane,ane", 2, "different engines"),
        ("cost net.py:net --target m4 --fidelity exact", 2, "'roofline', 'analytic', 'cycle'"),
        ("cost net.py:net --target m4 --dtype f64", 2, "'f16', 'f32'"),
        ("cost net.py:net --target m4 --dim width", 2, "NAME=N"),
        ("cost net.py:net --target m4 --dim width=0", 2, "at least 1"),
        ("cost net.py:net --target m4 --dim width=8 --dim width=9", 2, "twice"),
        ("cost net.py:net --target m4 --dim widht=8", 1, "did you mean 'width'"),
        ("cost net.py:net --target m4 --json no/such/folder.json", 1, "no/such: no such folder"),
        ("cost none.mlir --target m4", 1, "no such file: none.mlir"),
        ("cost bad.mlir --target m4", 1, r"bad\.mlir:2:8: .*'graph\.rleu'; did you mean 'graph\.relu'(.|\n)*\^\^\^"),
        ("cost binary.mlir --target m4", 1, r"binary\.mlir is not UTF-8 text"),
        ("opt binary.mlir", 1, r"binary\.mlir is not UTF-8 text"),
        ("compile shapes.mlir --target m4", 1, r"shapes\.mlir:2"),
        ("opt mixed.mlir", 1, "not legal at the tile level"),
        ("opt none.mlir", 1, "none.mlir: No such file"),
        ("opt good.mlir --passes canonicalise", 1, "did you mean 'canonicalize'"),
        ("opt good.mlir --passes fuse{max_op=3}", 1, "did you mean"),
        ("opt good.mlir --passes tile", 1, "needs a target"),
        ("opt good.mlir --load none.py", 1, "no such file: none.py"),
        ("opt good.mlir --load fails.py", 1, r"RuntimeError: not today, at .*fails\.py:2"),
        ("explore good.mlir --target m4 --set ane.coers=8", 1, "did you mean 'ane.cores'"),
        ("explore good.mlir --target m4 --set ane.cores=many", 1, "ane.cores=many"),
        ("explore good.mlir --target m4 --set ane.cores", 2, "PARAMETER=VALUE"),
        ("targets show m4min", 1, "did you mean 'm4"),
        ("costs net.py:net", 2, "Did you mean 'cost'"),
        ("cost net.py:net --target m4 --fidelty cycle", 2, "--fidelity"),
    ],
)
def test_mistakes(tw: Tilewright, command: str, code: int, message: str) -> None:
    result = tw(*command.split())
    assert result.code == code, result.err
    assert re.search(message, result.err), result.err
    assert "Traceback" not in result.err and "internal" not in result.err
    assert result.out == ""


def test_a_lower_level_cannot_go_back(tw: Tilewright) -> None:
    assert tw("compile", "good.mlir", *M4, "--emit", "tile", "-o", "low.mlir").code == 0
    result = tw("compile", "low.mlir", *M4, "--emit", "graph")
    assert result.code == 1 and "at the tile level already" in result.err


def test_a_broken_pass_leaves_a_reproducer_that_reproduces(tw: Tilewright) -> None:
    Path("mine.py").write_text(
        "from dataclasses import dataclass\nfrom tilewright.passes import Pass, register_pass\n"
        "@register_pass\n@dataclass(frozen=True)\nclass Oops(Pass):\n"
        "    def run(self, module, context):\n        raise KeyError('lost')\n"
    )
    result = tw("opt", "good.mlir", "--load", "mine.py", "--passes", "canonicalize,oops")
    assert result.code == 3 and "the pass 'oops' failed: KeyError: 'lost'" in result.err
    assert "Traceback" not in result.err
    (file,) = re.findall(r"\S+\.mlir", result.err)
    text = Path(file).read_text()
    assert f"// tilewright opt {file} --passes oops" in text and "Traceback" in text
    again = tw("opt", file, "--passes", "oops")
    assert again.code == 3 and "KeyError: 'lost'" in again.err


def test_an_unexpected_error_is_written_down(tw: Tilewright, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilewright.targets.list_targets", lambda: 1 // 0)
    result = tw("targets", "list")
    assert result.code == 3 and "Traceback" not in result.err
    (file,) = re.findall(r"\S+\.txt", result.err)
    assert "ZeroDivisionError" in Path(file).read_text()


def test_interrupts_are_quiet(tw: Tilewright, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tilewright.targets.list_targets", interrupt)
    result = tw("targets", "list")
    assert (result.code, result.out, result.err) == (130, "", "")


def test_a_device_is_written_to_and_a_link_followed(tw: Tilewright) -> None:
    assert tw("opt", "good.mlir", "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()
    Path("link.mlir").symlink_to("target.mlir")
    assert tw("opt", "good.mlir", "-o", "link.mlir").code == 0
    assert Path("link.mlir").is_symlink() and "graph.relu" in Path("target.mlir").read_text()


def test_a_failed_write_leaves_the_old_file(tw: Tilewright, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out.mlir").write_text("old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left", "out.mlir")))
    result = tw("opt", "good.mlir", "-o", "out.mlir")
    assert result.code == 1 and "No space left" in result.err
    assert Path("out.mlir").read_text() == "old"
    assert not list(Path().glob(".out.mlir.*"))
