"""Complex tensors. The graph has none: each is two real tensors, its parts, which may be views like any other.

Where a program takes, gives or stores one, the parts lie side by side in a last axis of two, as `torch.view_as_real`
shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tilewright.compiler.ir import Value

from .aliasing import Sliced, Tensor
from .dtypes import COMPLEX_PARTS
from .emitter import Emitter, Number


@dataclass(frozen=True, slots=True)
class Parts:
    """The real and imaginary part of a complex number or tensor; a part that is the same all over may be a number."""

    re: Value | Number
    im: Value | Number


@dataclass(frozen=True, slots=True, eq=False)
class Complex:
    """What an FX node stands for whose tensor is complex."""

    re: Tensor
    im: Tensor

    def read(self, e: Emitter) -> Parts:
        return Parts(self.re.read(e), self.im.read(e))

    def write(self, e: Emitter, value: Parts) -> None:
        """Gives both parts new contents, in their own dtype and shape."""
        for tensor, new in ((self.re, value.re), (self.im, value.im)):
            old = tensor.read(e).type
            tensor.write(e, e.expand(e.value(new, old.dtype), old.shape))


class Joined(Tensor):
    """`torch.view_as_real` of parts that do not lie side by side: a copy when it is read, a view when it is written."""

    __slots__ = ("parts",)

    def __init__(self, parts: Complex):
        super().__init__()
        self.parts = parts

    def stamp(self) -> int:
        return self.parts.re.root.stamp() + self.parts.im.root.stamp()

    def read(self, e: Emitter) -> Value:
        parts = (self.parts.re.read(e), self.parts.im.read(e))
        return e.concat([e.reshape(p, (*p.type.shape, 1)) for p in parts], parts[0].type.rank)

    def write(self, e: Emitter, value: Value) -> None:
        last = value.type.rank - 1
        self.parts.write(e, Parts(*(Sliced(last, i, 1, drop=True).read(e, value) for i in (0, 1))))


def is_complex(fake: Any) -> bool:
    """Whether torch's fake value, or any of a list of them, is a complex tensor."""
    if isinstance(fake, (list, tuple)):
        return any(map(is_complex, fake))
    return isinstance(fake, torch.Tensor) and fake.dtype in COMPLEX_PARTS


def pairs(data: Any) -> Any:
    """A complex tensor's numbers as pairs in a last axis; any other tensor as it is."""
    return torch.view_as_real(data.resolve_conj()) if data.dtype in COMPLEX_PARTS else data


def part_of(fake: Any) -> Any:
    """A stand-in for torch's fake value of one part of it; for a list of fakes, a list."""
    if isinstance(fake, (list, tuple)):
        return [part_of(f) for f in fake]
    return torch.empty_strided(
        fake.shape, fake.stride(), dtype=COMPLEX_PARTS.get(fake.dtype, fake.dtype), device="meta"
    )


def as_complex(pair: Tensor, rank: int) -> Complex:
    """The tensor that a real one, whose last of `rank` axes is 2, holds the parts of."""
    if isinstance(pair, Joined):
        return pair.parts
    re, im = (Tensor(base=pair, view=Sliced(rank - 1, i, 1, drop=True)) for i in (0, 1))
    return Complex(re, im)


def as_real(z: Complex) -> Tensor:
    """Both parts in a last axis: a view, in which the model may write."""
    re, im = z.re.view, z.im.view
    if z.re.base is not None and z.re.base is z.im.base and isinstance(re, Sliced) and isinstance(im, Sliced):
        return z.re.base  # which as_complex took apart: no other two views of one base are the parts of a tensor
    return Joined(z)


@dataclass(frozen=True, slots=True)
class Negated:
    """What `conj` shows of an imaginary part."""

    def read(self, e: Emitter, base: Value) -> Value:
        return e.apply("neg", base)

    def write(self, e: Emitter, base: Value, value: Value) -> Value:
        return e.apply("neg", value)


def conjugate(z: Complex) -> Complex:
    return Complex(z.re, Tensor(base=z.im, view=Negated()))


aten = torch.ops.aten
VIEWS: dict[Any, Callable[[Complex], Tensor | Complex]] = {  # of a complex tensor's storage, besides those by parts
    aten.view_as_real.default: as_real,
    aten.real.default: lambda z: z.re,
    aten.imag.default: lambda z: z.im,
    aten._conj.default: conjugate,
    aten.conj.default: conjugate,
}
