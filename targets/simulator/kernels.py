"""Which tasks of a program are the same kernel, which an idle machine need not walk twice.

Two tasks are alike if their rows are, with every index counted from the task's own first row: the same instructions,
loops, token moves, commands (with units, latencies and shares of DRAM traffic), prices and blocks.
"""

from __future__ import annotations

import numpy as np

from .machine import COMMAND, FOR, NEXT
from .program import Program, TaskInfo

# columns that are indices, with the table that they lead into
_LEADS = {
    "loops": {"init": "moves", "next": "moves", "exit": "moves", "exit_end": "moves"},
    "commands": {"after": "links", "after_end": "links", "round": "links", "round_end": "links"},
    "axes": {"term": "terms", "term_end": "terms"},
    "terms": {"loop": "loops"},
}


def find(program: Program) -> None:
    """Writes to each task which is the first one like it. What a command costs and where its bytes go must be known."""
    known: dict[tuple[bytes, ...], int] = {}
    for index, task in enumerate(program.tasks):
        program.code.tasks[index]["like"] = known.setdefault(_content(program, task), index)


def _content(program: Program, task: TaskInfo) -> tuple[bytes, ...]:
    tables = {name: getattr(program.code, name)[first:end].copy() for name, (first, end) in task.rows.items()}
    first = {name: rows[0] for name, rows in task.rows.items()}
    for name, columns in _LEADS.items():
        for column, leads in columns.items():
            tables[name][column] -= first[leads]
    tables["loops"]["body"] -= task.first
    commands = tables["commands"]
    commands["task"] = 0
    for begin, end in zip(commands["round"].tolist(), commands["round_end"].tolist(), strict=True):
        tables["links"][begin:end] -= first["loops"]
    copies = commands["price"] < 0
    commands["price"] -= np.where(copies, 0, first["prices"])
    for column in ("axis", "axis_end"):
        commands[column] -= np.where(copies, first["axes"], 0)
    steps = program.code.instructions[task.first : task.last].copy()
    op, arg = steps["op"], steps["arg"]
    looping = (op == FOR) | (op == NEXT)
    arg -= np.where(op == COMMAND, first["commands"], np.where(looping, first["loops"], arg))
    return (steps.tobytes(), *(rows.tobytes() for rows in tables.values()))
