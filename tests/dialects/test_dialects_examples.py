"""Every op shows an example in its docstring, and every example is a program."""

import pytest
from ir_examples import EXAMPLES, WITHOUT_EXAMPLE, Example
from tilewright.compiler.dialects import LEGAL
from tilewright.compiler.ir import Operation, parse


def test_every_op_has_an_example():
    assert WITHOUT_EXAMPLE == []


def test_the_examples_hold_every_op():
    shown = {op.name for example in EXAMPLES for op in parse(example.text).walk()}
    known = {
        name for name in Operation.registry if name.partition(".")[0] in ("builtin", "func", "graph", "tile", "soc")
    }
    assert known - shown == set()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_an_example_is_a_program_of_its_level(example: Example, roundtrip):
    module = parse(example.text, file=example.name)
    roundtrip(module)
    assert [op.name for op in module.walk() if not op.name.startswith(LEGAL[example.level])] == []
