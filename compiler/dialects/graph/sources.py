"""Where values come from: weights, constants, counters."""

from __future__ import annotations

from tilewright.compiler.ir import Value, attribute, result

from .base import GraphOp


class Parameter(GraphOp, name="graph.parameter"):
    """A weight, by reference: its data is looked up by name when the program runs.

    `%w = graph.parameter {key = "fc.weight"} : tensor<10x64xf16>`
    """

    __slots__ = ()
    y = result()
    key = attribute(str)

    def verify(self) -> None:
        """Any shape will do."""


class Constant(GraphOp, name="graph.constant"):
    """A splat (one number) or a small dense tensor (a flat tuple, row-major).

    `%c = graph.constant {value = 0.125} : tensor<f16>`
    """

    __slots__ = ()
    y = result()
    value = attribute(object)

    def verify(self) -> None:
        if isinstance(self.value, tuple) and len(self.value) != self.result.type.elements:
            self.fail(f"holds {len(self.value)} numbers for {self.result.type}")


class Iota(GraphOp, name="graph.iota"):
    """Numbers `start, start + step, ...` along one axis.

    `%i = graph.iota {start = 0, step = 1} : tensor<128xi64>`
    """

    __slots__ = ()
    y = result()
    start = attribute(float, 0)
    step = attribute(float, 1)

    def verify(self) -> None:
        if self.result.type.rank != 1:
            self.fail(f"makes a vector, not {self.result.type}")


def is_parameter(value: Value) -> bool:
    return isinstance(value.owner, Parameter)
