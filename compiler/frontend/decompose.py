"""Composite ops without a lowering are taken apart by torch's own decompositions."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.export import ExportedProgram

from .lowerings import NOTHING, find, without_write

ROUNDS = 4  # a decomposition may hold composites itself


def decompose_unknown(program: ExportedProgram) -> ExportedProgram:
    """The program with every op that has no lowering, but a decomposition, replaced by the ops that torch makes of it.

    A program in which all ops have lowerings is handed back as it is; all other ops stay whole.
    """
    for _ in range(ROUNDS):
        missing = {o for o in _overloads(program) if o not in NOTHING and find(o) is None}
        if not missing:
            break
        known = torch.export.default_decompositions()
        missing |= {pure for o in missing if (pure := without_write(o)) is not None}
        table = {o: known[o] for o in missing if o in known}
        if not table:
            break
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = program.run_decompositions(table)
    return program


def _overloads(program: ExportedProgram) -> set[Any]:
    """The ATen ops of the program, also in the graphs that it holds."""
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    return {n.target for g in graphs for n in g.nodes if isinstance(n.target, torch._ops.OpOverload)}
