"""Runs a soc-level module with numpy: the scheduled commands, on buffers at their addresses.

Memory changes when a command executes, so a missing token, an overlapping buffer or a slot too few shows as a wrong
number in some order that the tokens allow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tilewright.compiler.ir import Module

from .memory import Memory
from .numerics import Arith, Array, check_arith, one_blas_thread
from .schedule import Program, in_any_order, in_program_order


def run_soc(
    module: Module, inputs: Sequence[Array], arith: Arith = "native", order: str = "program", seed: int = 0
) -> list[Array]:
    """The outputs of `main` on `inputs`, in order, read when what the program waits for is done.

    `order` is "program" (as written), "random" (by `seed`), or one of the adversarial orders of schedule.ORDERS.
    Raises InterpretError for inputs that do not fit, blocks that do not match, reads out of bounds, and deadlocks.
    """
    return execute(module, inputs, arith, order, seed)[0]


def execute(module: Module, inputs: Sequence[Array], arith: Arith, order: str, seed: int) -> tuple[list[Array], Memory]:
    """The outputs, and the memory after every command has run."""
    check_arith(arith)
    memory = Memory(module, arith)
    memory.fill(module, inputs)
    program = Program(module.main, arith, memory.scale)
    outputs: list[Array] = []

    def read_outputs() -> None:
        outputs.extend(np.array(memory.tensor(v), order="C") for v in program.outputs)

    with one_blas_thread():
        if order == "program":
            for command in in_program_order(program):
                command.plan.execute(memory, command.point)
            read_outputs()
        else:
            for command in in_any_order(program, order, seed, read_outputs):
                command.plan.execute(memory, command.point)
    return outputs, memory
