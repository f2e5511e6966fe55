"""The soc level: what the hardware runs. Commands on units, ordered by tokens, on buffers at addresses.

Loops stay loops:

    func.func @main() -> memref<512x256xf16, strided<[256, 1], offset: 0>, "dram"> {
      %x = soc.buffer {address = 0, role = "input", index = 0}
        : memref<512x512xf16, strided<[512, 1], offset: 0>, "dram">
      %p = soc.buffer {address = 524288, role = "parameter", key = "fc.weight"}
        : memref<512x256xf16, strided<[256, 1], offset: 0>, "dram">
      %w = soc.view %p : memref<256x512xf16, strided<[1, 256], offset: 0>, "dram">
      %y = soc.buffer {address = 786432, role = "output"} : memref<512x256xf16, strided<[256, 1], offset: 0>, "dram">
      %l = soc.launch async [] on @ane {
        %t = soc.task async [] (%start) {label = "matmul", macs = 67108864} {
          %xb = soc.buffer {address = 0, slots = 2, slot_bytes = 16384, depth = 2, access = ["m", "k"]}
            : memref<64x128xf16, strided<[128, 1], offset: 0>, "ane.l2">
          %wb = soc.buffer {address = 0, slots = 2, slot_bytes = 65536, depth = 2, access = [":256", "k"]}
            : memref<256x128xf16, strided<[128, 1], offset: 0>, "ane.wbuf">
          %acc = soc.buffer {address = 0, access = ["m", ":256"]}
            : memref<64x256xf32, strided<[256, 1], offset: 0>, "ane.acc">
          %yb = soc.buffer {address = 32768, access = ["m", ":256"]}
            : memref<64x256xf16, strided<[256, 1], offset: 0>, "ane.l2">
          %m0, %m1, %m2 = soc.for m = 512 by 64 iter(%f0 = %start, %f1 = %start, %stored = %start) {
            %k0, %k1, %k2 = soc.for k = 512 by 128 iter(%g0 = %f0, %g1 = %f1, %free = %stored) {
              %c = soc.copy async [%g0] %x[m, k] to %xb on @ane.load
              %d = soc.copy async [%g0] %w[:256, k] to %wb on @ane.weights
              %e = soc.exec async [%c, %d, %free] on @ane.mac (%a = %xb, %b = %wb, %s = %acc init 0.0) to (%acc)
                  {reductions = ["k"]} {
                %0 = tile.matmul %a, %b, %s {transpose_b = true} : !tile.tile<64x256xf32, "reg">
                tile.yield %0
              }
              soc.yield %g1, %e, %e
            }
            %v = soc.exec async [%k2] on @ane.vec (%s = %acc) to (%yb) {
              %0 = tile.cast %s {to = "f16"} : !tile.tile<64x256xf16, "reg">
              tile.yield %0
            }
            %o = soc.copy async [%v] %yb to %y[m, :256] on @ane.store
            soc.yield %k0, %k1, %o
          }
          soc.yield %m2
        }
      }
      soc.wait %l
      func.return %y
    }

Order. A unit runs its commands one at a time, in program order. A command starts when the tokens that it waits for are
done. Nothing else orders anything: in a task, commands that depend on what came before the task wait for its start
token. An engine runs one task at a time, in order; a launch starts when its tokens are done and the engine's launches
before it are done.

Buffers. A buffer in "dram" holds a tensor for the whole run. One in an engine's space holds the block that `access`
gives at the current iteration, contiguous, at `address + slot * slot_bytes`; the slot is the running count of
iterations of the `depth` outermost loops of the task, modulo `slots`. On an edge the block is smaller and starts at the
same address.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.compiler.ir import TOKEN, MemRefType, Operation, Symbol, TokenType, attribute, operand, result

from .access import Access, parse_access
from .tile import NONE

MEMORY = 1 << 48  # bytes that an address reaches: 48 bits, as in the Arm architecture without FEAT_LPA (DDI 0487)
ROLES = ("input", "parameter", "constant", "iota", "temporary", "output")


class SocOp(Operation):
    __slots__ = ()

    def check_tokens(self, values: Sequence[Any]) -> None:
        for v in values:
            if not isinstance(v.type, TokenType):
                self.fail(f"waits for {v.type}, which is no token")


class Buffer(SocOp, name="soc.buffer"):
    """Memory at an address (bytes) of a space. See the head of this file for slots, depth and access.

    `%x = soc.buffer {address = 0, role = "input", index = 0}
    : memref<512x512xf16, strided<[512, 1], offset: 0>, "dram">`

    In "dram", `role` says what the memory holds at the start: an input (`index`), a parameter (`key`), a constant
    (`value`), an iota (`value` = (start, step)), or nothing (temporary, output).
    """

    __slots__ = ()
    y = result()
    address = attribute(int)
    slots = attribute(int, 1)
    slot_bytes = attribute(int, 0)
    depth = attribute(int, 0)
    access = attribute(tuple, ())
    role = attribute(str, "temporary")
    index = attribute(int, 0)
    key = attribute(str, "")
    value = attribute(object, 0)

    def verify(self) -> None:
        kind = self.result.type
        if not isinstance(kind, MemRefType):
            self.fail(f"gives {kind}, expected a memref")
        if self.address < 0 or self.address % 64:
            self.fail(f"address {self.address} is not a multiple of 64")
        if self.address + kind.bytes > MEMORY:
            self.fail(f"ends at byte {self.address + kind.bytes:,}; addresses go up to {MEMORY:,}")
        parse_access(self.access)
        if self.role not in ROLES:
            self.fail(f"role '{self.role}' is none of {', '.join(ROLES)}")
        if self.slots > 1 and self.slot_bytes < kind.bytes:
            self.fail(f"slots of {self.slot_bytes} bytes overlap: a block has {kind.bytes}")

    @property
    def block(self) -> Access:
        return parse_access(self.access)


class View(SocOp, name="soc.view"):
    """The same memory with another shape, strides and offset, which the result type gives.

    `%w = soc.view %p : memref<256x512xf16, strided<[1, 256], offset: 0>, "dram">`
    """

    __slots__ = ()
    x = operand()
    y = result()

    def verify(self) -> None:
        if not isinstance(self.x.owner, Buffer):
            self.fail("looks at a soc.buffer, nothing else")


class Launch(SocOp, name="soc.launch"):
    """Starts an engine's list of tasks once its tokens are done; its token is done when the last task is.

    `%l = soc.launch async [] on @ane {`
    """

    __slots__ = ()
    region_count = 1
    after = operand(variadic=True)
    token = result()
    engine = attribute(Symbol)

    def infer(self) -> Sequence[TokenType]:
        return (TOKEN,)

    def verify(self) -> None:
        self.check_tokens(self.operands)
        for op in self.body:
            if not isinstance(op, (Task, Yield)):
                self.fail(f"holds tasks, not {op.name}")

    @property
    def tasks(self) -> list[Task]:
        return [op for op in self.body if isinstance(op, Task)]


class Task(SocOp, name="soc.task"):
    """One op of the level above: buffers, then loops of commands. The region's argument is the token of its start.

    Its token is done when the tokens that the region yields are. `macs` is what its commands must add up to.

    `%t = soc.task async [] (%start) {label = "matmul", macs = 67108864} {`
    """

    __slots__ = ()
    region_count = 1
    after = operand(variadic=True)
    token = result()
    label = attribute(str, "")
    reason = attribute(str, "")
    macs = attribute(int, 0)

    def infer(self) -> Sequence[TokenType]:
        return (TOKEN,)

    def verify(self) -> None:
        self.check_tokens(self.operands)
        if [a.type for a in self.body.args] != [TOKEN]:
            self.fail("the region takes one argument, the start token")


class For(SocOp, name="soc.for"):
    """Runs its region for the tiles of the dim `dim`: size `size` cut by `tile`. Carries tokens round.

    Operands are the first iteration's tokens; the region takes them as arguments and yields the next iteration's; the
    results are the last iteration's.

    `%k0, %k1, %k2 = soc.for k = 512 by 128 iter(%g0 = %f0, %g1 = %f1, %free = %stored) {`
    """

    __slots__ = ()
    region_count = 1
    inits = operand(variadic=True)
    tokens = result(variadic=True)
    dim = attribute(str)
    size = attribute(int)
    tile = attribute(int)

    def infer(self) -> Sequence[TokenType]:
        return (TOKEN,) * len(self._operands)

    @property
    def trips(self) -> int:
        return -(-self.size // self.tile)

    def verify(self) -> None:
        self.check_tokens(self.operands)
        end = self.body.last
        if not isinstance(end, Yield) or not len(end.operands) == len(self.operands) == len(self.body.args):
            self.fail("operands, region arguments and yielded tokens must match")
        if self.size < 1 or self.tile < 1:
            self.fail(f"size {self.size} by {self.tile} is no loop")


class Copy(SocOp, name="soc.copy"):
    """Moves a block between "dram" and an engine's buffer on a DMA unit.

    Exactly one side is in "dram"; `access` says which block of it. Loading, elements out of bounds read `pad`; storing,
    they are dropped.

    `%c = soc.copy async [%g0] %x[m, k] to %xb on @ane.load`
    """

    __slots__ = ()
    source = operand()
    target = operand()
    after = operand(variadic=True)
    token = result()
    unit = attribute(Symbol)
    access = attribute(tuple)
    pad = attribute(object, NONE)

    def infer(self) -> Sequence[TokenType]:
        return (TOKEN,)

    @property
    def loads(self) -> bool:
        """True from dram to the engine."""
        return self.source.type.space == "dram"

    @property
    def block(self) -> Access:
        return parse_access(self.access)

    def verify(self) -> None:
        self.check_tokens(self.after)
        if (self.source.type.space == "dram") == (self.target.type.space == "dram"):
            self.fail("copies between dram and an engine's space, in either direction")
        far = self.source if self.loads else self.target
        if far.type.rank != len(self.block.axes):
            self.fail(f"the access has {len(self.access)} axes for {far.type}")
        if self.source.type.density != self.target.type.density:
            self.fail(f"moves {self.source.type} to {self.target.type}: a block is as sparse as its tensor")


class Exec(SocOp, name="soc.exec"):
    """Runs a body of tile ops on a compute unit: reads the blocks of `inputs`, writes one block to each of `outputs`.

    Operands are `reads` inputs, then `writes` outputs, then tokens. `inits[i]` is what input i reads in the first
    iteration of the loops over the dims `reductions` (an accumulator), or "none". An input in "dram" is read in place.

    `%v = soc.exec async [%k2] on @ane.vec (%s = %acc) to (%yb) {`
    """

    __slots__ = ()
    region_count = 1
    values = operand(variadic=True)
    token = result()
    unit = attribute(Symbol)
    reads = attribute(int)
    writes = attribute(int)
    inits = attribute(tuple, ())
    reductions = attribute(tuple, ())

    def infer(self) -> Sequence[TokenType]:
        return (TOKEN,)

    @property
    def inputs(self) -> Sequence[Any]:
        return self._operands[: self.reads]

    @property
    def outputs(self) -> Sequence[Any]:
        return self._operands[self.reads : self.reads + self.writes]

    @property
    def after(self) -> Sequence[Any]:
        return self._operands[self.reads + self.writes :]

    def verify(self) -> None:
        self.check_tokens(self.after)
        if len(self.body.args) != self.reads or len(self.body.terminator.operands) != self.writes:
            self.fail("the body takes one block for each input and yields one for each output")
        if self.inits and len(self.inits) != self.reads:
            self.fail("'inits' needs one entry for each input")


class Wait(SocOp, name="soc.wait"):
    """The program goes on when these tokens are done; a program ends in one that waits for every launch.

    `soc.wait %l`
    """

    __slots__ = ()
    tokens = operand(variadic=True)

    def verify(self) -> None:
        self.check_tokens(self.operands)


class Yield(SocOp, name="soc.yield"):
    """Ends a region of the soc level with its tokens: `soc.yield %g1, %e, %e`."""

    __slots__ = ()
    tokens = operand(variadic=True)
    terminator = True

    def verify(self) -> None:
        self.check_tokens(self.operands)
