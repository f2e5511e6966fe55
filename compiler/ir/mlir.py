"""MLIR as the judge of our syntax: what it makes of a text in the generic form."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .core import IRError


class MLIRError(IRError):
    """MLIR rejects the text; the message is its own."""


def through_mlir(text: str, locations: bool = False) -> str:
    """Parses and verifies `text` (the generic form) in MLIR, dialects that it does not know allowed, and prints it.

    What comes back is MLIR's generic form: it names values by number, sorts attributes and, with `locations`, names
    locations by alias. Raises MLIRError for a text that MLIR does not take.
    """
    ir: Any = import_module("torch_mlir.ir")  # heavy, and only this function needs it

    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        try:
            module = ir.Module.parse(text)
            module.operation.verify()
        except ir.MLIRError as error:
            raise MLIRError(str(error)) from None
        return module.operation.get_asm(print_generic_op_form=True, enable_debug_info=locations, use_local_scope=True)
