"""FX nodes with complex tensors among their operands or results."""

from __future__ import annotations

from typing import Any, Protocol

from tilewright.compiler.ir import Value
from torch.fx import Node
from torch.utils import _pytree as pytree

from .aliasing import Tensor
from .complex_tensors import VIEWS, Complex, Parts, as_complex, part_of
from .emitter import Emitter
from .errors import Unsupported
from .lowerings import BY_PARTS, COMPLEX, LOWERINGS, Lowering, aten, views


class Importer(Protocol):
    """What the import of real nodes lends to that of complex ones."""

    e: Emitter

    def evaluate(self, lowering: Lowering, args: list[Any], kwargs: dict[str, Any]) -> Any: ...
    def results(self, node: Node, target: Any, args: list[Any], results: Any, fakes: Any) -> Any: ...
    def decomposed(self, node: Node, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any: ...


def lower(importer: Importer, node: Node, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The tensors that stand for results that are complex, or made from what is."""
    if target is aten.view_as_complex.default:
        return as_complex(args[0], node.meta["val"].dim() + 1)
    if target in VIEWS and isinstance(args[0], Complex):
        return VIEWS[target](args[0])
    if target in COMPLEX:
        found = importer.evaluate(COMPLEX[target], args, kwargs)
        return [*map(_made, found)] if isinstance(found, (list, tuple)) else _made(found)
    if target in BY_PARTS and target in LOWERINGS:
        importer.e.expected = fakes = part_of(node.meta["val"])
        re, im = (_of_part(importer, node, target, args, kwargs, fakes, part) for part in ("re", "im"))
        return [*map(Complex, re, im)] if isinstance(re, list) else Complex(re, im)
    if target in LOWERINGS:
        raise Unsupported("complex numbers")
    return importer.decomposed(node, target, args, kwargs)


def write(importer: Importer, node: Node, pure: Any, before: Any, args: list[Any], kwargs: dict[str, Any]) -> Complex:
    """The tensor that `pure` gives new contents; `before` is torch's fake value of it."""
    tensor: Complex = args[0]
    importer.e.expected, importer.e.first = node.meta["val"] if views(pure) else before, before
    new = lower(importer, node, pure, args, kwargs)
    if views(pure):  # a change of shape: what follows sees the tensor through it
        return new
    tensor.write(importer.e, new.read(importer.e))
    return tensor


def _made(value: Value | Parts) -> Tensor | Complex:
    if isinstance(value, Value):
        return Tensor(value)
    assert isinstance(value.re, Value) and isinstance(value.im, Value)
    return Complex(Tensor(value.re), Tensor(value.im))


def _of_part(
    importer: Importer, node: Node, target: Any, args: list[Any], kwargs: dict[str, Any], fakes: Any, part: str
) -> Any:
    """The real op on the real, or on the imaginary part of every complex argument."""
    args, kwargs = pytree.tree_map_only(Complex, lambda z: getattr(z, part), (args, kwargs))
    return importer.results(node, target, args, importer.evaluate(LOWERINGS[target], args, kwargs), fakes)
