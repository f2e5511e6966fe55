"""The pipeline runner: what it checks, what it records, and the reproducer of a pass that breaks."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.ir import Block, Func, Module, Return, TensorType, VerifyError
from tilewright.compiler.ir.parser import parse
from tilewright.compiler.pipeline import InternalError, LevelError, check, compile_module, level_of, run_passes
from tilewright.passes import Pass, PassContext, PassError, parse_pipeline


@pytest.fixture(autouse=True)
def _reproducers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def program() -> Module:
    """relu(x) of four elements."""
    module = Module()
    func = module.body.append(Func(regions=[Block()], sym_name="main"))
    x = func.body.add_arg(TensorType((4,), "f16"), "x")
    y = func.body.append(graph.Relu(x)).result
    func.body.append(Return(y))
    return module


@dataclass(frozen=True)
class Twice(Pass):
    """Applies the first op twice."""

    def run(self, module: Module, context: PassContext) -> None:
        last = module.main.body.terminator
        again = module.main.body.insert_before(last, graph.Relu(last.operands[0]))
        last.set_operand(0, again.result)


@dataclass(frozen=True)
class Breaks(Pass):
    """Gives up in the middle, having changed the program."""

    size: int = 1

    def run(self, module: Module, context: PassContext) -> None:
        module.main.body.insert_before(module.main.body.terminator, graph.Relu(module.main.args[0]))
        raise KeyError("no such thing")


@dataclass(frozen=True)
class Invalid(Pass):
    """Makes a program that the verifier refuses."""

    def run(self, module: Module, context: PassContext) -> None:
        module.main.body.terminator.detach()


@dataclass(frozen=True)
class Refuses(Pass):
    """Says that the user asked for what cannot be."""

    def run(self, module: Module, context: PassContext) -> None:
        raise PassError("no engine takes it")


def test_records_say_what_each_pass_did() -> None:
    seen = []
    records = run_passes(program(), [Twice(), Twice()], PassContext(), observer=seen.append)
    assert records == seen
    assert [(r.name, r.ops_before, r.ops_after) for r in records] == [("twice", 4, 5), ("twice", 5, 6)]
    assert all(r.seconds >= 0 for r in records)


def test_print_after_shows_each_program() -> None:
    out = io.StringIO()
    run_passes(program(), [Twice(), Twice()], PassContext(), print_after=out)
    assert out.getvalue().count("// after twice\n") == 2
    assert out.getvalue().count("graph.relu") == 2 + 3


def test_a_broken_pass_leaves_a_reproducer() -> None:
    """The file holds the program before the pass, not after the half of it that ran, and the command."""
    with pytest.raises(InternalError, match=r"breaks\{size=2\}.*KeyError.*no such thing") as caught:
        run_passes(program(), [Twice(), Breaks(2)], PassContext(engines=("ane",)))
    text = caught.value.reproducer.read_text()
    command = text.splitlines()[0]
    assert command == f"// tilewright opt {caught.value.reproducer} --passes 'breaks{{size=2}}' --engines ane"
    assert "// KeyError: 'no such thing'\n" in text
    assert [op.name for op in parse(text).main.body] == ["graph.relu", "graph.relu", "func.return"]


def test_a_pass_that_makes_an_invalid_program_is_named() -> None:
    with pytest.raises(InternalError, match=r"'invalid' failed: VerifyError"):
        run_passes(program(), [Invalid()], PassContext())


def test_a_mistake_of_the_user_comes_through() -> None:
    with pytest.raises(PassError, match="no engine takes it"):
        run_passes(program(), [Refuses()], PassContext())


def test_levels() -> None:
    module = program()
    assert level_of(module) == "graph"
    block = module.main.body
    block.insert_before(block.terminator, tile.Empty(result_types=[TensorType((4,), "f16")]))
    assert level_of(module) == "tile"
    with pytest.raises(VerifyError, match=r"'graph.relu' .* is not legal at the tile level"):
        check(module)
    with pytest.raises(LevelError, match="at the tile level already"):
        compile_module(module, None, level="graph")


def test_pipeline_text() -> None:
    with pytest.raises(PassError, match="did you mean 'canonicalize'"):
        parse_pipeline("canonicalise")
