"""One scalar function an element, with broadcasting."""

from __future__ import annotations

from typing import ClassVar

from tilewright.compiler.ir import attribute, operand, result

from ..access import identity
from ..elementwise import SCALARS, Scalar, broadcast
from .base import Dim, GraphOp, Shape, Structure, broadcast_access, dim_names


class Elementwise(GraphOp):
    """Applies one scalar function to each element, with broadcasting."""

    __slots__ = ()
    y = result()
    scalar: ClassVar[Scalar]

    def shapes(self) -> list[tuple[Shape, str]]:
        dtypes = {v.type.dtype for v in self.operands}
        if len(dtypes) > 1:
            raise ValueError(f"operands have different dtypes {sorted(dtypes)}; insert graph.cast")
        shape = broadcast(*(v.type.shape for v in self.operands))
        return [(shape, self.dtype() if self.scalar.result == "same" else self.scalar.result)]

    def structure(self) -> Structure:
        out = self.result.type.shape
        names = dim_names(len(out))
        return Structure(
            tuple(Dim(n, s) for n, s in zip(names, out, strict=True)),
            tuple(broadcast_access(v.type.shape, out, names) for v in self.operands),
            (identity(names),),
        )


class _Unary(Elementwise):
    __slots__ = ()
    x = operand()


class _Binary(Elementwise):
    __slots__ = ()
    a = operand()
    b = operand()


def _define(name: str, scalar: Scalar) -> type[Elementwise]:
    base = _Unary if scalar.arity == 1 else _Binary
    integers = name.startswith("bitwise") or name in ("gcd", "lcm")
    dtype = "i32" if integers else "i1" if name.startswith("logical") else "f16"
    args = ["%x"] if scalar.arity == 1 else ["%a", "%b"]
    types = ", ".join(f"{a}: tensor<4x8x{dtype}>" for a in args)
    kind = dtype if scalar.result == "same" else scalar.result
    example = f"`%y = graph.{name} {', '.join(args)} : tensor<4x8x{kind}>`\n    with `{types}`"
    title = "".join(part.title() for part in name.split("_"))
    members = {"__slots__": (), "scalar": scalar, "__doc__": f"Elementwise {name}.\n\n    {example}\n    "}
    return type(base)(title, (base,), members, name=f"graph.{name}")  # type: ignore[call-overload]


ELEMENTWISE: dict[str, type[Elementwise]] = {name: _define(name, s) for name, s in SCALARS.items()}


class Cast(Elementwise, name="graph.cast"):
    """Converts to another dtype; float to integer truncates.

    `%y = graph.cast %x {to = "f32"} : tensor<4x8xf32>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    scalar = Scalar(1, (("move", 1),))
    to = attribute(str)

    def shapes(self) -> list[tuple[Shape, str]]:
        return [(self.shape(0), self.to)]


class Clamp(Elementwise, name="graph.clamp"):
    """Limits each element to [low, high]; either may be absent.

    `%y = graph.clamp %x {low = 0.0, high = 6.0} : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    scalar = Scalar(1, (("compare", 1),))
    low = attribute(float, None)
    high = attribute(float, None)


class LeakyRelu(Elementwise, name="graph.leaky_relu"):
    """`x if x > 0 else slope * x`.

    `%y = graph.leaky_relu %x {slope = 0.1} : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    scalar = Scalar(1, (("compare", 1), ("mul", 1)))
    slope = attribute(float, 0.01)


class Elu(Elementwise, name="graph.elu"):
    """`x if x > 0 else alpha * (exp(x) - 1)`.

    `%y = graph.elu %x {alpha = 1.0} : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    scalar = Scalar(1, (("compare", 1), ("exp", 1), ("fma", 1)))
    alpha = attribute(float, 1.0)


class Where(Elementwise, name="graph.where"):
    """`a` where the condition holds, else `b`.

    `%y = graph.where %c, %a, %b : tensor<4x8xf16>`
    with `%c: tensor<4x8xi1>, %a: tensor<4x8xf16>, %b: tensor<4x8xf16>`
    """

    __slots__ = ()
    condition = operand()
    a = operand()
    b = operand()
    scalar = Scalar(3, (("compare", 1),))

    def shapes(self) -> list[tuple[Shape, str]]:
        if self.dtype(0) != "i1" or self.dtype(1) != self.dtype(2):
            raise ValueError(f"takes (i1, T, T), not {[v.type.dtype for v in self.operands]}")
        return [(broadcast(*(v.type.shape for v in self.operands)), self.dtype(1))]
