"""Body ops on blocks of given sizes, for asking engines what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tilewright.compiler.dialects import tile
from tilewright.compiler.ir import Block, Operation, TileType, Value, is_float
from tilewright.targets.engines import Work

Shape = tuple[int, ...]


def block(shape: Shape, dtype: str = "f16", space: str = "ane.l2", density: Fraction | None = None) -> Value:
    return Block([TileType(shape, dtype, space, density)]).args[0]


def work(op: Operation) -> Work:
    """The op at its full size."""
    return Work(op, tuple(v.type.shape for v in op.operands), op.results[0].type.shape, op.operands[0].type.dtype)


def matmul(m: int, k: int, n: int, dtype: str = "f16", batch: Shape = ()) -> Operation:
    return tile.Matmul(block((*batch, m, k), dtype), block((*batch, k, n), dtype))


def conv(
    channels: int, out: int, size: Shape, kernel: Shape, groups: int = 1, dilation: int = 1, dtype: str = "f16"
) -> Operation:
    """A convolution whose result is 1 x out x size: its input block has the halo."""
    space = tuple(s + (k - 1) * dilation for s, k in zip(size, kernel, strict=True))
    x = block((1, channels, *space), dtype)
    w = block((out, channels // groups, *kernel), dtype)
    ones = (1,) * len(size)
    return tile.Conv(x, w, strides=ones, dilations=tuple(dilation * o for o in ones), grouped=groups > 1)


def sparse(product: Operation, density: Fraction | None) -> Operation:
    """A product whose second operand is made dense on its way in."""
    if density is not None:
        kind = product.operands[1].type
        weight = tile.on_blocks("to_dense")(block(kind.shape, kind.dtype, "ane.wbuf", density))
        product.set_operand(1, weight.result)
    return product


def elementwise(name: str, *shapes: Shape, dtype: str = "f16", **attributes: object) -> Operation:
    return tile.on_blocks(name)(*(block(s, dtype) for s in shapes), **attributes)


def examples(dtype: str = "f16") -> dict[str, Operation]:
    """One op of every kind that a body may hold."""
    x = (1, 8, 16, 32)
    number = dtype if is_float(dtype) else "f16"
    scale = block((1, 8, 1, 1), number)
    special: dict[str, Sequence[tuple[Value, ...] | dict[str, object]]] = {
        "cast": [(block(x, dtype),), {"to": "f32"}],
        "where": [(block(x, "i1"), block(x, dtype), block(x, dtype)), {}],
        "softmax": [(block(x, dtype),), {"axis": 3}],
        "layer_norm": [(block(x, dtype), block((32,), dtype), block((32,), dtype)), {"rank": 1, "eps": 1e-5}],
        "rms_norm": [(block(x, dtype), block((32,), dtype)), {"rank": 1, "eps": 1e-5}],
        "group_norm": [(block(x, dtype),), {"eps": 1e-5}],
        "cumsum": [(block(x, dtype),), {"axis": 3}],
        "scan": [(block(x, dtype),), {"axis": 3, "kind": "max"}],
        "argsort": [(block(x, dtype),), {"axis": 3}],
        "pool_index": [
            (block(x, dtype),),
            {"kernel": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0), "dilations": (1, 1)},
        ],
        "search_sorted": [(block((100,), dtype, "dram"), block((64,), dtype, "dram")), {}],
        "scatter_reduce": [
            (block((16, 8), dtype, "dram"), block((3,), "i64", "dram"), block((3, 8), dtype, "dram")),
            {"axis": 0, "kind": "sum"},
        ],
        "grouped_matmul": [
            (block((6, 8), dtype, "dram"), block((4, 8, 16), dtype, "dram"), block((4,), "i32", "dram")),
            {},
        ],
        "linalg": [(block((2, 16, 16), dtype, "dram"),), {"kind": "inv", "of": (2, 16, 16), "to": dtype}],
        "dequantize": [(block(x, "i4"), scale), {"block": (1, 1, 16, 32), "to": number}],
        "quantize": [(block(x, number), scale), {"block": (1, 1, 16, 32), "to": "i8"}],
        "lookup": [(block(x, "ui4"), block((1, 1, 1, 1, 16), number)), {"block": x}],
        "to_dense": [(block(x, dtype, density=Fraction(1, 4)),), {}],
        "argmax": [(block(x, dtype),), {"axis": 3}],
        "resize": [(block(x, dtype),), {"size": (32, 64), "mode": "bilinear"}],
        "reshape": [(block(x, dtype),), {"to": (1, 8, 512)}],
        "transpose": [(block(x, dtype),), {"permutation": (0, 1, 3, 2)}],
        "gather": [(block((1000, 64), dtype, "dram"), block((16,), "i64")), {"axis": 0}],
    }
    ops: dict[str, Operation] = {}
    for name, cls in tile.ON_BLOCKS.items():
        arity = cls.scalar.arity if hasattr(cls, "scalar") else 1  # type: ignore[attr-defined]
        operands, attributes = special.get(name, [tuple(block(x, dtype) for _ in range(arity)), {}])
        ops[name] = cls(*operands, **attributes)  # type: ignore[arg-type]
    ops["matmul"] = matmul(64, 128, 96, dtype)
    ops["conv"] = conv(32, 64, (14, 14), (3, 3), dtype=dtype)
    ops["depthwise"] = conv(32, 32, (14, 14), (3, 3), groups=32, dtype=dtype)
    ops["reduce"] = tile.Reduce(block(x, dtype), kind="sum", axes=(3,))
    ops["pool"] = tile.Pool(block(x, dtype), kind="max", kernel=(3, 3), strides=(2, 2), dilations=(1, 1))
    ops["causal"] = tile.Causal(block(x, dtype), row="m", column="n")
    cache, rows = block((1, 8, 64, 32), dtype, "dram"), block((1, 8, 4, 32), dtype)
    ops["scatter"] = tile.ScatterRows(cache, block((4,), "i64"), rows, axis=2)
    ops["squeeze"] = tile.Squeeze(block(x, dtype), axes=(0,))
    ops["unsqueeze"] = tile.Unsqueeze(block(x, dtype), axes=(0,))
    ops["constant"] = tile.Constant(result_types=[TileType((4, 8), dtype, "reg")], value=1.0)
    return ops
