"""Every op shows an example in its docstring, and every example is a program."""

import pytest
from ir_examples import EXAMPLES, WITHOUT_EXAMPLE, Example
from tilewright.compiler.dialects import LEGAL
from tilewright.compiler.ir import Operation, parse

DIALECTS = ("builtin.", "func.", "graph.", "tile.", "soc.")


def test_every_op_has_an_example():
    assert WITHOUT_EXAMPLE == []


def test_the_examples_hold_every_op():
    shown = {op.name for example in EXAMPLES for op in parse(example.text).walk()}
    assert {name for name in Operation.registry if name.startswith(DIALECTS)} - shown == set()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_an_example_is_a_program_of_its_level(example: Example, roundtrip):
    module = parse(example.text, file=example.name)
    roundtrip(module)
    assert [op.name for op in module.walk() if not op.name.startswith(LEGAL[example.level])] == []
