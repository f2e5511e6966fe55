"""What movement costs: a view nothing, a copy its bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from tilewright.compiler.frontend.export import export
from tilewright.compiler.frontend.importer import import_program
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate

X = torch.zeros(4, 64, 96, dtype=torch.float16)
LINE = 64  # bytes that reach memory together
Move = Callable[[torch.Tensor], torch.Tensor]

VIEWS: dict[str, Move] = {
    "view": lambda x: x.view(8, 32, 96),
    "flatten": lambda x: x.flatten(),
    "unflatten": lambda x: x.unflatten(2, (3, 32)),
    "squeeze": lambda x: x[None].squeeze(0),
    "permute": lambda x: x.permute(2, 0, 1),
    "transpose": lambda x: x.transpose(1, 2),
    "movedim": lambda x: x.movedim(0, 2),
    "slice": lambda x: x[:, 16:48],
    "stride": lambda x: x[:, ::2],
    "select": lambda x: x[1],
    "expand": lambda x: x[:1].expand(4, -1, -1),
    "split": lambda x: x.split(32, 1)[1],
    "unbind": lambda x: x.unbind(0)[2],
    "heads": lambda x: x.view(4, 64, 3, 32).transpose(1, 2),
    "detach": lambda x: x.detach().contiguous().clone(),
}
COPIES: dict[str, Move] = {
    "cat": lambda x: torch.cat([x, x + 1], 1),
    "roll": lambda x: x.roll(5, 1),
    "flip": lambda x: x.flip(1),
    "repeat": lambda x: x.repeat(1, 2, 1),
    "pad": lambda x: F.pad(x, (1, 1)),
}


class Moved(torch.nn.Module):
    def __init__(self, move: Move, then: Move):
        super().__init__()
        self.move, self.then = move, then

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.then(self.move(x))


def tasks(move: Move, then: Move = lambda x: x) -> list[tuple[str, int]]:
    """(label, bytes) of all that runs."""
    module = import_program(export(Moved(move, then), (X,), {}))
    target = load_target("m4")
    compile_module(module, target, ("ane", "gpu"), "soc")  # whose lines are of 64 bytes
    return [(t.label, t.bytes) for t in simulate(module, target).tasks]


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_free(name: str) -> None:
    """Alone it is no task, and what reads it reads its elements and nothing beside them."""
    assert tasks(VIEWS[name]) == []
    ((label, moved),) = tasks(VIEWS[name], torch.relu)
    y = VIEWS[name](X)
    elements = min(y.numel(), X.numel()) + y.numel()
    assert label == "relu"
    assert moved <= 2 * elements + LINE


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_costs_what_it_moves(name: str) -> None:
    """It writes every element of its result, and reads no element more often than the result has it."""
    y = COPIES[name](X)
    moved = sum(n for label, n in tasks(COPIES[name]) if label != "add")
    assert 2 * y.numel() <= moved <= 2 * 2 * y.numel() + 16 * LINE


def test_windows_are_joined_from_slices() -> None:
    """Not gathered element by element, each of which would move a line of memory."""
    y = X.unfold(1, 4, 2)
    found = tasks(lambda x: x.unfold(1, 4, 2))
    assert {label for label, _ in found} == {"concat"}
    assert sum(n for _, n in found) <= 3 * 2 * y.numel()
