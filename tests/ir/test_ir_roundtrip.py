"""Text and back is the identity, in both forms and through MLIR, for any module."""

import pytest
from hypothesis import HealthCheck, given, settings
from random_modules import modules, structure
from tilewright.compiler.ir import Location, parse, print_op
from tilewright.compiler.ir.mlir import through_mlir

MANY = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


def placeless(module):
    for op in module.walk():
        op.location = Location()
    return structure(module)


@pytest.mark.parametrize("generic", [False, True], ids=["pretty", "generic"])
@MANY
@given(module=modules())
def test_a_text_reads_back_as_the_module(generic, module):
    text = print_op(module, generic, locations=True)
    again = parse(text, check=False)
    assert structure(again) == structure(module)
    assert print_op(again, generic, locations=True) == text


@pytest.mark.parametrize("generic", [False, True], ids=["pretty", "generic"])
@MANY
@given(module=modules())
def test_without_locations_only_these_are_lost(generic, module):
    text = print_op(module, generic)
    again = parse(text, check=False)
    assert print_op(again, generic) == text
    assert structure(again) == placeless(module)


@MANY
@given(module=modules())
def test_mlir_takes_the_generic_form_and_gives_it_back(module):
    text = print_op(module, generic=True, locations=True)
    again = parse(through_mlir(text, locations=True), check=False)
    assert structure(again) == structure(module)
    assert [[a.name for a in f.args] for f in again.body] == [
        [a.name for a in f.args] for f in parse(text, check=False).body
    ]
