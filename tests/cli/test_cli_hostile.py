"""Absurd or hostile options, outputs, texts and targets: one message, soon, and nothing is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_model import Tilewright

M4 = ("--target", "m4")
GOOD = (
    "func.func @main(%x: tensor<4xf16>) -> tensor<4xf16> {\n  %y = graph.relu %x : tensor<4xf16>\n  func.return %y\n}\n"
)
TARGET = 'name = "x"\ntitle = "y"\ninherits = "m4"\n'


@pytest.fixture(autouse=True)
def good(tw: Tilewright) -> None:
    Path("good.mlir").write_text(GOOD)


def refused(tw: Tilewright, message: str, *command: str, code: int = 1) -> None:
    before = {p: p.stat().st_mtime_ns for p in Path().iterdir()}
    result = tw(*command)
    assert result.code == code, result.err
    assert re.search(message, result.err), result.err
    assert "Traceback" not in result.err and "internal" not in result.err and len(result.err) < 2000
    assert result.out == "" and {p: p.stat().st_mtime_ns for p in Path().iterdir()} == before


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    "value", ["-1", "0", "1e30", "nan", "", "\uff13", "\u0663", "9" * 5000, "99999999999", "1,,2", "4 ", "1_0", "0x10"]
)
def test_sizes_that_are_none(tw: Tilewright, value: str) -> None:
    refused(tw, "whole number N of at least 1 and at most", "cost", "net.py:net", *M4, "--dim", f"size={value}", code=2)


def test_more_combinations_than_anybody_waits_for(tw: Tilewright) -> None:
    many = ",".join(map(str, range(1, 2001)))
    dims = ("--dim", f"size={many}", "--dim", f"width={many}")
    refused(tw, "4,000,000 combinations; the limit is 1,000", "cost", "net.py:net", *M4, *dims, code=2)
    settings = ("--set", f"ane.cores={many}", "--set", f"gpu.cores={many}")
    refused(tw, "4,000,000 points; the limit is", "explore", "good.mlir", *M4, *settings, code=2)


@pytest.mark.parametrize("value", ["-1", "0", "nan", "inf", "1e400", "\u00e9", "1e30"])
def test_parameters_that_are_none(tw: Tilewright, value: str) -> None:
    refused(tw, "ane.cores", "explore", "good.mlir", *M4, "--set", f"ane.cores={value}")


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    "command", ["compile {} --target m4 -o", "cost {} --target m4 --json", "trace {} --target m4 -o", "opt {} -o"]
)
def test_outputs_are_looked_at_before_any_work(tw: Tilewright, command: str) -> None:
    Path("folder").mkdir()
    words = command.format("absent.mlir").split()  # whose absence would be told if it were looked at first
    refused(tw, "folder: is a folder, not a file", *words, "folder")
    refused(tw, "absent: no such folder", *words, "absent/x")
    refused(tw, "No space left on device", *command.format("good.mlir").split(), "/dev/full")


def test_explore_looks_at_its_output_first(tw: Tilewright) -> None:
    words = ("explore", "absent.mlir", *M4, "--set", "ane.cores=8", "-o")
    refused(tw, "absent: no such folder", *words, "absent/x.parquet")


# ---------------------------------------------------------------- texts


def relu(kind: str) -> str:
    return GOOD.replace("tensor<4xf16>", f"tensor<{kind}>")


NESTED = '"builtin.module"() ({\n' * 5000 + "}) : () -> ()\n" * 5000
LISTS = GOOD.replace("graph.relu %x", f"graph.relu %x {{a = {'[' * 50_000}{']' * 50_000}}}")
LATER = GOOD.replace("graph.relu %x", f"graph.relu %x {{a = {'[0, ' * 5000}{']' * 5000}}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the program has 0 functions"),
        ('"builtin.module"() ({}) : () -> ()', "the program has 0 functions"),
        (GOOD.replace("@main", "@other") + GOOD, "the program has 2 functions"),
        (relu("9" * 5000 + "xf16"), "a number of 5,000 digits; the limit is"),
        (GOOD.replace("%x :", f"%x {{a = {'9' * 50_000}}} :"), "a number of 50,000 digits"),
        (NESTED, r"x\.mlir:65:.*regions are nested more than 64 deep"),
        (LISTS, "lists are nested more than 64 deep"),
        (LATER, "lists are nested more than 64 deep"),
        ("(" * 100_000, "unexpected '\\('"),
        ("a" * 1_000_000, r"unexpected 'a{160}'\.\.\."),
        ("%x = " * 200_000, "x.mlir:1:6: unexpected '%x'"),
        (" " * 1_000_000 + "!", "x.mlir:1:1000001"),
        ('"unterminated', "unexpected"),
        ("\0" * 1000, "unexpected"),
        ("a" * ((64 << 20) + 1), "has more than 67,108,864 characters"),
    ],
    ids=lambda x: x[:20] if len(x) < 200 else f"{x[:8]}{len(x)}",
)
def test_texts_that_are_no_program(tw: Tilewright, text: str, message: str) -> None:
    Path("x.mlir").write_text(text)
    refused(tw, message, "cost", "x.mlir", *M4)
    if "functions" not in message:
        refused(tw, message, "opt", "x.mlir", "--passes", "canonicalize")


def test_a_pass_needs_a_function(tw: Tilewright) -> None:
    Path("x.mlir").write_text("")
    refused(tw, "the module holds no function", "opt", "x.mlir", "--passes", "canonicalize")


@pytest.mark.parametrize("size", ["0", "100000000000", "9223372036854775808", str(2**70), "x".join("1" * 100)])
def test_sizes_that_no_machine_has(tw: Tilewright, size: str) -> None:
    """Costed or refused, but neither is a fault of the tool."""
    Path("x.mlir").write_text(relu(f"{size}xf16"))
    result = tw("cost", "x.mlir", *M4, "--json", "/dev/null")
    assert result.code in (0, 1) and "internal" not in result.err, result.err


def test_accesses_that_cannot_be_read(tw: Tilewright) -> None:
    assert tw("compile", "good.mlir", *M4, "--emit", "tile", "-o", "tile.mlir").code == 0
    text = Path("tile.mlir").read_text()
    assert "[d0]" in text
    Path("x.mlir").write_text(text.replace("[d0]", "[q]"))
    refused(tw, r"x\.mlir:\d+:\d+.*(q|access)", "cost", "x.mlir", *M4)
    assert tw("compile", "good.mlir", *M4, "--emit", "soc", "-o", "soc.mlir").code == 0
    text = Path("soc.mlir").read_text()
    at = re.search(r"access = \[\"([^\"]*)\"\]", text)
    assert at is not None
    Path("x.mlir").write_text(text.replace(at[0], 'access = ["@ane"]'))
    refused(tw, "cannot read the index expression '@ane'", "cost", "x.mlir", *M4)


def test_a_device_is_not_read_for_ever(tw: Tilewright) -> None:
    refused(tw, "has more than 67,108,864 characters", "opt", "/dev/zero")
    Path("zero.toml").symlink_to("/dev/zero")
    refused(tw, "zero.toml", "targets", "show", "zero.toml")


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a" * (2 << 20), "has more than 1,048,576 bytes"),
        ("a = " + "[" * 5000 + "]" * 5000, "no valid TOML"),
        ("a = " + "9" * 6000, "no valid TOML"),
        (TARGET.replace("m4", "x.toml"), "inherits from itself"),
        (TARGET.replace("m4", "/dev/zero"), "no target '/dev/zero'"),
        (TARGET.replace('"m4"', "[" + "1," * 5000 + "]"), "expected the name of a target"),
        (TARGET + "memory = 3\n", "memory: is 3; expected a table"),
        (TARGET + 'ane = {kind = "neural", value = 3}\n', "ane"),
        (TARGET + f"[ane]\ncores = {[7] * 5000}\n", r"ane\.cores: .*\.\.\."),
    ],
    ids=lambda x: x[:20] if len(x) < 200 else f"{x[:8]}{len(x)}",
)
def test_targets_that_are_none(tw: Tilewright, text: str, message: str) -> None:
    Path("x.toml").write_text(text)
    refused(tw, message, "cost", "good.mlir", "--target", "x.toml")
    refused(tw, message, "targets", "show", "x.toml")


# ---------------------------------------------------------------- faults of the tool's own


def test_a_pass_that_breaks_in_a_cost_is_reproduced(tw: Tilewright, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(self: object, module: object, context: object) -> None:
        raise IndexError("off by one")

    Path("mine.toml").write_text(TARGET)
    with monkeypatch.context() as patch:
        patch.setattr("tilewright.passes.double_buffer.DoubleBuffer.run", breaks)
        result = tw("cost", "net.py:net", "--target", "mine.toml", "--engines", "ane,cpu")
        assert result.code == 3 and "the pass 'double-buffer' failed: IndexError: off by one" in result.err
        assert "Traceback" not in result.err and result.out == ""
        (file,) = re.findall(r"\S+\.mlir", result.err)
        command = Path(file).read_text().partition("\n")[0].removeprefix("// tilewright ").split()
        assert command[-4:] == ["--target", str(Path("mine.toml").resolve()), "--engines", "ane,cpu"]
        again = tw(*command)
        assert again.code == 3 and "IndexError: off by one" in again.err
    assert tw(*command).code == 0


def test_the_file_of_a_pass_of_ones_own_is_in_the_command(tw: Tilewright) -> None:
    Path("mine.py").write_text(
        "from dataclasses import dataclass\nfrom tilewright.passes import Pass, register_pass\n"
        "@register_pass\n@dataclass(frozen=True)\nclass Stumbles(Pass):\n"
        "    def run(self, module, context):\n        raise KeyError('lost')\n"
    )
    result = tw("opt", "good.mlir", "--load", "mine.py", "--passes", "stumbles")
    (file,) = re.findall(r"\S+\.mlir", result.err)
    assert f"--passes stumbles --load {Path('mine.py').resolve()}" in Path(file).read_text()


def test_too_little_memory_is_no_fault_of_the_tool(tw: Tilewright, monkeypatch: pytest.MonkeyPatch) -> None:
    def fills() -> None:
        raise MemoryError

    monkeypatch.setattr("tilewright.targets.list_targets", fills)
    refused(tw, "^error: there is not enough memory", "targets", "list")
