"""Operations, values and blocks.

An op has operands, results, attributes and regions; a region is one block (there is no control-flow graph). Values keep
their uses, so a rewrite is local. An op class declares its parts:

    class Matmul(Operation, name="graph.matmul"):
        a = operand()
        b = operand()
        y = result()
        transpose_b = attribute(bool, default=False)

        def infer(self): ...     # result types from operands and attributes
        def verify(self): ...    # raises VerifyError through self.fail(...)

and is built by calling it: `Matmul(a, b, transpose_b=True, location=loc)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self, TypeVar

from .location import UNKNOWN, Location
from .types import Type

AnyOp = TypeVar("AnyOp", bound="Operation")


class IRError(Exception):
    """A program that breaks the rules of the IR; the message names the op and where it comes from."""


class VerifyError(IRError):
    """An op breaks a rule. Where it is known, `op` is the one and `reason` is what is wrong with it."""

    op: Operation | None = None
    reason: str = ""


class Value:
    """A result of an op or an argument of a block. `uses` holds (user, operand index) in order of creation."""

    __slots__ = ("index", "name", "owner", "type", "uses")

    def __init__(self, type: Type, owner: Operation | Block, index: int, name: str | None = None):
        self.type: Any = type  # a concrete Type; each level knows which
        self.owner = owner
        self.index = index
        self.name = name
        self.uses: dict[tuple[Operation, int], None] = {}

    @property
    def op(self) -> Operation | None:
        """The op that makes this value; None for a block argument."""
        return self.owner if isinstance(self.owner, Operation) else None

    @property
    def users(self) -> list[Operation]:
        """The ops that use this value, each once, in order of creation."""
        return list(dict.fromkeys(user for user, _ in self.uses))

    def replace_all_uses(self, new: Value) -> None:
        for user, index in list(self.uses):
            user.set_operand(index, new)

    def __repr__(self) -> str:
        return f"<value {self.name or self.index} : {self.type}>"


class operand:  # noqa: N801 - reads as a declaration
    """Declares the next operand. `optional` and `variadic` ones come last."""

    def __init__(self, optional: bool = False, variadic: bool = False):
        self.optional, self.variadic, self.index = optional, variadic, -1

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, op: Operation | None, owner: type) -> Any:
        if op is None:
            return self
        if self.variadic:
            return op._operands[self.index :]
        if self.optional and self.index >= len(op._operands):
            return None
        return op._operands[self.index]


class result:  # noqa: N801
    """Declares the next result; `variadic` takes the rest."""

    def __init__(self, variadic: bool = False):
        self.variadic, self.index = variadic, -1

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, op: Operation | None, owner: type) -> Any:
        if op is None:
            return self
        return op.results[self.index :] if self.variadic else op.results[self.index]


class attribute:  # noqa: N801
    """Declares an attribute of a Python type. Without a default it must be given; a tuple's default is ()."""

    REQUIRED: ClassVar[Any] = object()

    def __init__(self, type: type, default: Any = REQUIRED):
        self.type, self.default = type, default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, op: Operation | None, owner: type) -> Any:
        if op is None:
            return self
        value = op.attributes.get(self.name, self.default)
        if value is attribute.REQUIRED:
            op.fail(f"needs the attribute '{self.name}'")
        return value

    def __set__(self, op: Operation, value: Any) -> None:
        op.attributes[self.name] = value


class Operation:
    """Base of all ops. Subclass with `name=` to declare one; instances are linked into a block."""

    __slots__ = ("_operands", "attributes", "location", "next", "parent", "prev", "regions", "results")

    name: ClassVar[str] = ""
    operand_defs: ClassVar[list[operand]] = []
    result_defs: ClassVar[list[result]] = []
    attribute_defs: ClassVar[dict[str, attribute]] = {}
    region_count: ClassVar[int] = 0
    terminator: ClassVar[bool] = False
    registry: ClassVar[dict[str, type[Operation]]] = {}

    def __init_subclass__(cls, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        members = [m for base in reversed(cls.__mro__) for m in vars(base).values()]
        cls.operand_defs = [m for m in members if isinstance(m, operand)]
        cls.result_defs = [m for m in members if isinstance(m, result)]
        cls.attribute_defs = {m.name: m for m in members if isinstance(m, attribute)}
        for defs in (cls.operand_defs, cls.result_defs):
            for i, d in enumerate(defs):
                d.index = i
        if name:
            cls.name = name
            Operation.registry[name] = cls

    def __init__(
        self,
        *operands: Value,
        result_types: Sequence[Type] | None = None,
        regions: Sequence[Block] = (),
        location: Location = UNKNOWN,
        **attributes: Any,
    ):
        self._operands: list[Value] = list(operands)
        self.attributes: dict[str, Any] = attributes
        self.location = location
        self.parent: Block | None = None
        self.prev: Operation | None = None
        self.next: Operation | None = None
        for i, v in enumerate(operands):
            v.uses[self, i] = None
        self.regions = list(regions)
        for block in self.regions:
            block.parent = self
        types = self.infer() if result_types is None else result_types
        self.results = [Value(t, self, i) for i, t in enumerate(types)]

    def infer(self) -> Sequence[Type]:
        """Result types from operands and attributes. An op without this must be given `result_types`."""
        if self.result_defs:
            raise VerifyError(f"'{self.name}' cannot infer its result types; pass result_types")
        return ()

    def verify(self) -> None:
        """Checks what the declaration cannot say. Raise through `self.fail`."""

    def fail(self, message: str) -> Any:
        error = VerifyError(f"'{self.name}' ({self.location}): {message}")
        error.op, error.reason = self, message
        raise error

    @property
    def operands(self) -> Sequence[Value]:
        return self._operands

    @property
    def result(self) -> Value:
        return self.results[0]

    @property
    def body(self) -> Block:
        return self.regions[0]

    def set_operand(self, index: int, value: Value) -> None:
        self._operands[index].uses.pop((self, index), None)
        self._operands[index] = value
        value.uses[self, index] = None

    def set_operands(self, values: Iterable[Value]) -> None:
        for i, v in enumerate(self._operands):
            v.uses.pop((self, i), None)
        self._operands = list(values)
        for i, v in enumerate(self._operands):
            v.uses[self, i] = None

    @property
    def unused(self) -> bool:
        return not any(r.uses for r in self.results)

    def walk(self) -> Iterator[Operation]:
        """This op and all ops nested in it, outermost first, in program order. The op at hand may be erased."""
        yield self
        for block in self.regions:
            for op in block:
                if op.regions:
                    yield from op.walk()
                else:
                    yield op

    def detach(self) -> Self:
        """Takes the op out of its block, keeping its operands."""
        block = self.parent
        if block is None:
            return self
        if self.prev is None:
            block.first = self.next
        else:
            self.prev.next = self.next
        if self.next is None:
            block.last = self.prev
        else:
            self.next.prev = self.prev
        self.parent = self.prev = self.next = None
        return self

    def erase(self) -> None:
        """Removes the op and everything in it. Its results must have no uses left."""
        for r in self.results:
            if r.uses:
                raise IRError(f"cannot erase '{self.name}' ({self.location}): its result {r} is still used")
        self.detach()
        self._drop()

    def _drop(self) -> None:
        for i, v in enumerate(self._operands):
            v.uses.pop((self, i), None)
        for block in self.regions:
            for op in block:
                op._drop()

    def clone(self, mapping: dict[Value, Value]) -> Self:
        """A deep copy outside any block; operands go through `mapping`, which gains the new results."""
        regions = []
        for block in self.regions:
            new = Block([a.type for a in block.args], [a.name for a in block.args])
            mapping.update(zip(block.args, new.args, strict=True))
            for op in block:
                new.append(op.clone(mapping))
            regions.append(new)
        copy = type(self)(
            *(mapping.get(v, v) for v in self._operands),
            result_types=[r.type for r in self.results],
            regions=regions,
            location=self.location,
            **self.attributes,
        )
        for old, fresh in zip(self.results, copy.results, strict=True):
            fresh.name = old.name
            mapping[old] = fresh
        return copy

    def __repr__(self) -> str:
        return f"<{self.name} {self.location}>"

    def __str__(self) -> str:
        """The pretty text."""
        from .printer import print_op  # the printer needs this file

        return print_op(self)


class Block:
    """A list of ops with arguments: the one block of a region."""

    __slots__ = ("args", "first", "last", "parent")

    def __init__(self, arg_types: Sequence[Type] = (), arg_names: Sequence[str | None] | None = None):
        names = arg_names or [None] * len(arg_types)
        self.args = [Value(t, self, i, n) for i, (t, n) in enumerate(zip(arg_types, names, strict=True))]
        self.first: Operation | None = None
        self.last: Operation | None = None
        self.parent: Operation | None = None

    def __iter__(self) -> Iterator[Operation]:
        op = self.first
        while op is not None:
            following = op.next
            yield op
            op = following

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def terminator(self) -> Operation:
        if self.last is None:
            raise IRError("an empty block has no terminator")
        return self.last

    def add_arg(self, type: Type, name: str | None = None) -> Value:
        value = Value(type, self, len(self.args), name)
        self.args.append(value)
        return value

    def append(self, op: AnyOp) -> AnyOp:
        op.parent = self
        op.prev, op.next = self.last, None
        if self.last is None:
            self.first = op
        else:
            self.last.next = op
        self.last = op
        return op

    def insert_before(self, anchor: Operation, op: AnyOp) -> AnyOp:
        op.parent = self
        op.prev, op.next = anchor.prev, anchor
        if anchor.prev is None:
            self.first = op
        else:
            anchor.prev.next = op
        anchor.prev = op
        return op

    def insert_after(self, anchor: Operation, op: AnyOp) -> AnyOp:
        return self.append(op) if anchor.next is None else self.insert_before(anchor.next, op)


class Module(Operation, name="builtin.module"):
    """The whole program: functions, and (outside the text) the data behind its named parameters.

    The text need not write it: functions alone are a module.

        "builtin.module"() ({
          func.func @main(%x: tensor<4xf16>) -> tensor<4xf16> {
            func.return %x
          }
        }) : () -> ()
    """

    __slots__ = ("parameters",)
    region_count = 1

    def __init__(self, *operands: Value, **kwargs: Any):
        super().__init__(*operands, **{"regions": [Block()], **kwargs})
        self.parameters: dict[str, Any] = {}  # name -> tensor, or a callable that makes it when it is needed

    def clone(self, mapping: dict[Value, Value]) -> Self:
        """See Operation. The copy shares the data of the parameters."""
        copy = super().clone(mapping)
        copy.parameters = dict(self.parameters)
        return copy

    @property
    def main(self) -> Func:
        """The function `main`, or the only one."""
        functions = [op for op in self.body if isinstance(op, Func)]
        named = [f for f in functions if f.sym_name == "main"]
        if not functions:
            raise IRError("the module holds no function")
        return (named or functions)[0]


class Func(Operation, name="func.func"):
    """A function; its type is read off its block arguments and its return.

    func.func @main(%x: tensor<4xf16>) -> tensor<4xf16> attributes {aliases = [0, 0]} {
      func.return %x
    }
    """

    __slots__ = ()
    region_count = 1
    sym_name = attribute(str)

    @property
    def args(self) -> list[Value]:
        return self.body.args

    @property
    def outputs(self) -> Sequence[Value]:
        return self.body.terminator.operands

    def verify(self) -> None:
        if not isinstance(self.body.last, Return):
            self.fail("the body must end in func.return")


class Return(Operation, name="func.return"):
    """Ends a function and names its results: `func.return %x`."""

    __slots__ = ()
    values = operand(variadic=True)
    terminator = True

    def verify(self) -> None:
        if not isinstance(self.parent and self.parent.parent, Func):
            self.fail("stands only at the end of func.func")


class Builder:
    """Appends ops to a block, or before an op, under a current location.

    b = Builder(block)
    with b.at(location):
        y = b.add(graph.Relu(x)).result
    """

    __slots__ = ("anchor", "block", "location")

    def __init__(self, block: Block, before: Operation | None = None):
        self.block, self.anchor, self.location = block, before, UNKNOWN

    @classmethod
    def before(cls, op: Operation) -> Builder:
        assert op.parent is not None
        builder = cls(op.parent, op)
        builder.location = op.location
        return builder

    def at(self, location: Location) -> _Located:
        return _Located(self, location)

    def add(self, op: AnyOp) -> AnyOp:
        if op.location is UNKNOWN:
            op.location = self.location
        return self.block.append(op) if self.anchor is None else self.block.insert_before(self.anchor, op)


class _Located:
    __slots__ = ("builder", "location", "saved")

    def __init__(self, builder: Builder, location: Location):
        self.builder, self.location = builder, location

    def __enter__(self) -> Builder:
        self.saved, self.builder.location = self.builder.location, self.location
        return self.builder

    def __exit__(self, *_: object) -> None:
        self.builder.location = self.saved
