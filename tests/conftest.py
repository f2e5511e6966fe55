"""What all tests may use."""

from collections.abc import Callable

import pytest
from tilewright.compiler.ir import Module, parse, print_op
from tilewright.compiler.ir.mlir import through_mlir


def check_roundtrip(module: Module) -> None:
    """The module's text, in both forms, with and without locations, reads back as the same module; MLIR takes the
    generic form, and what it prints reads back as the same module too."""
    generic = print_op(module, generic=True, locations=True)
    for form in (True, False):
        for locations in (True, False):
            text = print_op(module, generic=form, locations=locations)
            again = parse(text)
            assert print_op(again, generic=form, locations=locations) == text
            expected = generic if locations else print_op(module, generic=True)
            assert print_op(again, generic=True, locations=locations) == expected
    numbered = print_op(module, generic=True, locations=True, names=False)
    from_mlir = parse(through_mlir(generic, locations=True))
    assert print_op(from_mlir, generic=True, locations=True, names=False) == numbered


@pytest.fixture(scope="session")
def roundtrip() -> Callable[[Module], None]:
    """`roundtrip(module)` holds the module's text against our parser and MLIR's."""
    return check_roundtrip
