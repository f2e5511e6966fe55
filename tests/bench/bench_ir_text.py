"""How fast the IR is built, printed, and parsed with all checks, on 10,000 ops.

python tests/bench/bench_ir_text.py
pytest tests/bench/bench_ir_text.py -m bench

Each figure is the best of several rounds in CPU seconds of this one thread: what the code can do, not what else the
machine was doing.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Block, Builder, Func, Location, Module, Return, Symbol, TensorType, parse, print_op

OPS = 10_000
ROUNDS = 5


class Figure(NamedTuple):
    name: str
    unit: str
    floor: float
    measured: float

    def __str__(self) -> str:
        ratio = self.measured / self.floor
        return (
            f"{self.name:<6} floor {self.floor:>9,.0f}  figure {self.measured:>9,.0f} {self.unit:<8} ratio {ratio:.2f}"
        )


def network(ops: int = OPS) -> Module:
    """A chain of convolutions, norms and activations, each with its weight and its place in the model."""
    module = Module()
    image, weight = TensorType((1, 64, 56, 56), "f16"), TensorType((64, 64, 3, 3), "f16")
    main = module.body.append(Func(regions=[Block([image], ["x"])], sym_name="main"))
    b = Builder(main.body)
    x = main.args[0]
    for i in range(0, ops, 4):
        with b.at(Location("net.py", 12 + i % 80, 8, f"layers.{i // 4}.conv", f"conv2d_{i // 4}")):
            w = b.add(graph.Parameter(result_types=[weight], key=f"layers.{i // 4}.conv.weight")).result
            x = b.add(graph.Conv(x, w, strides=(1, 1), padding=(1, 1, 1, 1))).result
            x = b.add(graph.ELEMENTWISE["relu"](x, engine=Symbol("ane"))).result
            x = b.add(graph.ELEMENTWISE["add"](x, x)).result
    b.add(Return(x))
    return module


def rate(count: int, work: Callable[[], object]) -> float:
    """`count` over the CPU seconds of the fastest round."""
    best = float("inf")
    for _ in range(ROUNDS):
        gc.collect()  # what earlier rounds left behind
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return count / best


def figures() -> list[Figure]:
    module = network()
    text = print_op(module)
    lines = text.count("\n") + 1
    return [
        Figure("build", "ops/s", 80_000, rate(OPS, network)),
        Figure("print", "lines/s", 100_000, rate(lines, lambda: print_op(module))),
        Figure("parse", "lines/s", 10_000, rate(lines, lambda: parse(text))),
    ]


@pytest.mark.bench
def test_ir_text_rates(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures()
    with capsys.disabled():
        print("", *found, sep="\n")
    assert [f.name for f in found if f.measured < f.floor] == []


if __name__ == "__main__":
    print(*figures(), sep="\n")
