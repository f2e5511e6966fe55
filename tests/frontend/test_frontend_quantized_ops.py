"""Quantised ops, one by one: the numbers of eager, and weights at the width that their range needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from frontend_check import Function, compare, imported, integers, op_names, same_as_eager, tensor
from quantized_models import bytes_at, stored, stored_bytes
from tilewright.compiler.frontend.errors import UnsupportedOps
from tilewright.compiler.frontend.lowerings.packed_weights import unpack_tensor_core_tiles
from tilewright.compiler.frontend.weights import storage_for
from tilewright.compiler.ir import int_range
from torch import nn

d: Any = torch.ops.quantized_decomposed
aten: Any = torch.ops.aten
I8 = torch.int8


class Held(nn.Module):
    """A function of the inputs and of tensors that the model holds."""

    def __init__(self, function: Callable[..., Any], **tensors: torch.Tensor):
        super().__init__()
        self.function, self.names = function, list(tensors)
        for name, t in tensors.items():
            self.register_buffer(name, t)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs, *(getattr(self, n) for n in self.names))


# ---------------------------------------------------------------- quantise and dequantise

SCALE, ZERO = torch.tensor([0.043]), torch.tensor([3])
ROWS, ROW_ZEROS = 0.01 + tensor(7).abs() / 50, integers(-9, 9, 7)
TOKENS, TOKEN_ZEROS = 0.01 + tensor(5, 7, 1).abs() / 50, integers(-9, 9, 5, 7, 1)
GROUPS, GROUP_ZEROS = 0.01 + tensor(5, 8).abs() / 50, integers(-9, 9, 5, 8)

BOTH_WAYS = {
    "per tensor": lambda x: (
        q := d.quantize_per_tensor(x, 0.043, 3, -128, 127, I8),
        d.dequantize_per_tensor(q, 0.043, 3, -128, 127, I8),
    ),
    "per tensor, unsigned": lambda x: (
        q := d.quantize_per_tensor(x, 0.017, 121, 0, 255, torch.uint8),
        d.dequantize_per_tensor(q, 0.017, 121, 0, 255, torch.uint8),
    ),
    "per tensor, by tensors": lambda x: (
        q := d.quantize_per_tensor.tensor(x, SCALE, ZERO, -127, 127, I8),
        d.dequantize_per_tensor.tensor(q, SCALE, ZERO, -127, 127, I8),
    ),
    "per tensor, limits in tensors": lambda x: (
        q := d.quantize_per_tensor.tensor2(x, SCALE, ZERO, torch.tensor(-90), torch.tensor(90), I8),
        d.dequantize_per_tensor.tensor2(q, SCALE, ZERO, torch.tensor(-90), torch.tensor(90), I8),
    ),
    "per channel of the middle": lambda x: (
        q := d.quantize_per_channel(x, ROWS, ROW_ZEROS, 1, -128, 127, I8),
        d.dequantize_per_channel(q, ROWS, ROW_ZEROS, 1, -128, 127, I8),
    ),
    "per channel without zeros": lambda x: (
        q := d.quantize_per_channel(x, ROWS, torch.zeros(7, dtype=torch.int64), 1, -128, 127, I8),
        d.dequantize_per_channel(q, ROWS, None, 1, -128, 127, I8),
    ),
    "per token": lambda x: (
        q := d.quantize_per_token(x, TOKENS, TOKEN_ZEROS, -128, 127, I8),
        d.dequantize_per_token(q, TOKENS, TOKEN_ZEROS, -128, 127, I8, torch.float32),
    ),
    "in groups": lambda x: (
        q := d.quantize_per_channel_group(x.reshape(5, -1)[:, :88], GROUPS, GROUP_ZEROS, -128, 127, I8, 11),
        d.dequantize_per_channel_group(q, GROUPS, GROUP_ZEROS, -128, 127, I8, 11, torch.float32),
    ),
    "a whole row as a group": lambda x: (
        q := d.quantize_per_channel_group(x[0], ROWS[:, None], ROW_ZEROS[:, None], -128, 127, I8, 128),
        d.dequantize_per_channel_group(q, ROWS[:, None], None, -128, 127, I8, 128, torch.float32),
    ),
}


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_quantise_and_dequantise(name: str) -> None:
    module = compare(BOTH_WAYS[name], tensor(5, 7, 13))
    assert {"quantize", "dequantize"} <= set(op_names(module))


def test_halves_go_to_the_even_number() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 300.0, -300.0])
    loaded = imported(lambda x: d.quantize_per_tensor(x, 1.0, 0, -127, 127, I8), x)
    same_as_eager(loaded, 0.0)


CHOICES = {
    "choose_qparams": lambda x: d.choose_qparams(x, -128, 127, 1e-6, I8),
    "choose_qparams, of positive numbers": lambda x: d.choose_qparams(x.abs() + 1, 0, 255, 1e-6, torch.uint8),
    "choose_qparams, nearly nothing": lambda x: d.choose_qparams(x * 1e-9, -128, 127, 2**-12, I8),
    "choose_qparams_symmetric": lambda x: d.choose_qparams_symmetric(x, -127, 127, 1e-6, I8),
    "choose_qparams_symmetric, unsigned": lambda x: d.choose_qparams_symmetric(x, 0, 255, 1e-6, torch.uint8),
    "asymmetric, per token": lambda x: d.choose_qparams_per_token_asymmetric(x, I8),
    "asymmetric, per token, of positive numbers": lambda x: d.choose_qparams_per_token_asymmetric(x.abs(), I8),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choosing_a_scale(name: str) -> None:
    compare(CHOICES[name], tensor(3, 5, 13))


def test_symmetric_scales_of_tokens() -> None:
    """torch's own two versions of the op differ in dtype; the export has the one that is used here."""

    def model(x: torch.Tensor) -> torch.Tensor:
        scale, zero = d.choose_qparams_per_token(x, I8)
        q = d.quantize_per_token(x, scale, zero, -128, 127, I8)
        return d.dequantize_per_token(q, scale, zero, -128, 127, I8, torch.float32)

    compare(model, tensor(3, 5, 13))


def test_dynamic_scales_stay_in_f32() -> None:
    """torch tells them as f64, which no engine but the CPU computes in."""

    def model(x: torch.Tensor) -> torch.Tensor:
        scale, zero = d.choose_qparams(x, -128, 127, 1e-6, I8)
        q = d.quantize_per_tensor.tensor(x, scale, zero, -128, 127, I8)
        return d.dequantize_per_tensor.tensor(q, scale, zero, -128, 127, I8)

    module = compare(model, tensor(5, 13))
    assert not [op for op in module.main.body for r in op.results if r.type.dtype in ("f64", "i64")]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.05, 3, -128, 127),
        lambda x: torch.fake_quantize_per_tensor_affine(x, SCALE, ZERO.int(), 0, 15),
        lambda x: torch.fake_quantize_per_channel_affine(x, ROWS, ROW_ZEROS.int(), 0, -8, 7),
        lambda x: torch.fake_quantize_per_tensor_affine(x, 1e-4, 0, -32768, 32767),
    ],
)
def test_fake_quantisation(function: Any) -> None:
    assert "quantize" in op_names(compare(function, tensor(7, 9)))


def test_tensors_without_elements() -> None:
    def model(x: torch.Tensor) -> Any:
        q = d.quantize_per_tensor(x, 0.1, 0, -128, 127, I8)
        return q, d.dequantize_per_tensor(q, 0.1, 0, -128, 127, I8)

    compare(model, tensor(0, 4))


# ---------------------------------------------------------------- narrow weights


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, ("ui1", 0)),
        (-1, 0, ("ui1", 1)),
        (-1, 1, ("ui2", 2)),
        (-2, 1, ("ui2", 2)),
        (0, 7, ("ui3", 0)),
        (-4, 3, ("ui3", 4)),
        (-7, 7, ("i4", 0)),
        (-8, 7, ("i4", 0)),
        (0, 15, ("ui4", 0)),
        (-16, 15, ("ui6", 32)),
        (0, 63, ("ui6", 0)),
        (-64, 63, None),
        (-127, 127, None),
        (0, 255, None),
    ],
)
def test_the_dtype_that_holds_a_range(low: int, high: int, expected: tuple[str, int] | None) -> None:
    assert storage_for(low, high) == expected
    if expected is not None:
        least, most = int_range(expected[0])
        assert least <= low + expected[1] and high + expected[1] <= most


@pytest.mark.parametrize(("low", "high", "bits"), [(-1, 0, 1), (-2, 1, 2), (0, 3, 2), (-4, 3, 3), (-8, 7, 4),
                                                   (0, 15, 4), (-32, 31, 6), (-64, 63, 8), (-128, 127, 8)])  # fmt: skip
def test_a_weight_is_stored_at_the_width_of_its_range(low: int, high: int, bits: int) -> None:
    zeros = integers(low, high + 1, 7)

    def model(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return x @ d.dequantize_per_channel(q, ROWS, zeros, 1, low, high, I8)

    loaded = imported(Held(model, q=integers(low, high + 1, 13, 7).to(I8)), tensor(3, 13))
    same_as_eager(loaded)
    kind = {f: t for f, t in stored(loaded).items() if f.startswith("q")}
    assert len(kind) == 1
    assert next(iter(kind.values())).startswith("13x7x")
    key = next(iter(kind))
    parameter = next(op for op in loaded.module.main.body if getattr(op, "key", None) == key)
    assert parameter.result.type.bytes == bytes_at(bits, (13, 7))


def test_a_weight_beyond_its_range_keeps_its_byte() -> None:
    """torch dequantises it as it is, whatever the limits say."""
    q = integers(-20, 20, 13, 7).to(I8)
    loaded = imported(Held(lambda x, q: x @ d.dequantize_per_tensor(q, 0.1, 0, -8, 7, I8), q=q), tensor(3, 13))
    same_as_eager(loaded)
    assert stored(loaded) == {"q": "13x7xi8"}


@pytest.mark.parametrize(("low", "high", "dtype"), [(-8, 7, "i4"), (-2, 1, "ui2"), (-127, 127, "i8")])
def test_a_weight_that_the_program_quantises(low: int, high: int, dtype: str) -> None:
    def model(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        q = d.quantize_per_channel(w, ROWS * 9, ROW_ZEROS.clamp(low, high), 1, low, high, I8)
        return x @ d.dequantize_per_channel(q, ROWS * 9, ROW_ZEROS.clamp(low, high), 1, low, high, I8)

    loaded = imported(Held(model, w=tensor(13, 7)), tensor(3, 13))
    same_as_eager(loaded)
    assert [op.to for op in loaded.module.main.body if op.name == "graph.quantize"] == [dtype]


def test_zero_points_that_are_all_zero_are_not_stored() -> None:
    zeros = torch.zeros(7, dtype=torch.int64)
    q = integers(-8, 8, 13, 7).to(I8)
    loaded = imported(
        Held(lambda x, q, s, z: x @ d.dequantize_per_channel(q, s, z, 1, -8, 7, I8), q=q, s=ROWS.clone(), z=zeros),
        tensor(3, 13),
    )
    same_as_eager(loaded)
    assert set(stored(loaded)) == {"q", "s"}


def test_an_integer_weight_that_is_cast_stays_an_integer() -> None:
    """As weight-only layers are written by hand: scaled after the product."""
    w, s = integers(-127, 128, 17, 13).to(I8), tensor(17).abs()
    loaded = imported(Held(lambda x, w, s: nn.functional.linear(x, w.to(x.dtype)) * s, w=w, s=s), tensor(5, 13))
    same_as_eager(loaded)
    assert op_names(loaded.module) == ["dequantize", "matmul", "mul"]
    assert stored(loaded)["w"] == "17x13xi8"


def test_an_index_that_is_cast_is_no_weight() -> None:
    """A vector of integers is computed with, not decoded."""
    module = compare(Held(lambda x, w: x * w.to(x.dtype), w=integers(0, 9, 80).to(I8)), tensor(80))
    assert "dequantize" not in op_names(module)


# ---------------------------------------------------------------- integer and packed products


@pytest.mark.parametrize("signed", [True, False])
def test_int_mm(signed: bool) -> None:
    def model(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch._int_mm((x * 30).to(I8 if signed else torch.uint8), w)

    x = tensor(19, 23) if signed else tensor(19, 23).abs()
    loaded = imported(Held(model, w=integers(-127, 128, 23, 8).to(I8)), x)
    same_as_eager(loaded, 0.0)
    assert op_names(loaded.module)[-1] == "matmul"


def test_exact_sums_without_data() -> None:
    """torch spells an integer product on the meta device otherwise."""
    from torch._higher_order_ops.out_dtype import out_dtype

    loaded = imported(lambda a, b: out_dtype(aten.mm.default, torch.int32, a, b), *(
        torch.empty(s, dtype=I8, device="meta") for s in ((19, 23), (23, 8))
    ))  # fmt: skip
    assert op_names(loaded.module) == ["matmul"]
    assert loaded.module.main.outputs[0].type.dtype == "i32"


def test_weight_int8pack_mm() -> None:
    w, s = integers(-127, 128, 37, 53).to(I8), tensor(37).abs()
    loaded = imported(Held(lambda x, w, s: aten._weight_int8pack_mm(x, w, s), w=w, s=s), tensor(3, 53))
    same_as_eager(loaded)
    assert stored(loaded)["w"] == "37x53xi8"


@pytest.mark.parametrize(("n", "k", "group"), [(48, 64, 32), (80, 256, 64), (16, 128, 128)])
@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_weight_int4pack_mm_for_cpu(n: int, k: int, group: int, dtype: str) -> None:
    packed = aten._convert_weight_to_int4pack_for_cpu(integers(0, 16, n, k).int(), 1)
    scales = torch.stack([0.05 + tensor(k // group, n).abs(), tensor(k // group, n, seed=1)], -1)
    model = Held(lambda x, w, s: aten._weight_int4pack_mm_for_cpu(x, w, group, s), w=packed, s=scales)
    loaded = imported(model, tensor(5, k), dtype=dtype)
    same_as_eager(loaded, 1e-5 if dtype == "f32" else 1e-2)
    assert stored(loaded) == {"w.i4": f"{n}x{k}xi4", "s.scale": f"{n}x{k // group}x{dtype}",
                              "s.zero": f"{n}x{k // group}x{dtype}"}  # fmt: skip


def tensor_core_tiles(q: torch.Tensor, inner: int) -> torch.Tensor:
    """[n, k] of 0..15 as CUDA's aten._convert_weight_to_int4pack lays it out, lane by lane."""
    n, k = q.shape
    out = np.zeros((n // 8, k // (16 * inner), 32, inner // 2), np.uint32)
    for tile, outer, lane, word in np.ndindex(out.shape):
        row, base = tile * 8 + lane // 4, (outer * inner + word * 2) * 16 + lane % 4 * 2
        v = [int(q[row, base + step]) for step in (0, 1, 8, 9, 16, 17, 24, 25)]
        for place, i in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            out[tile, outer, lane, word] |= np.uint32(v[i] << (4 * place))
    return torch.from_numpy(out.view(np.int32))


@pytest.mark.parametrize(("n", "k", "inner"), [(8, 32, 2), (24, 128, 4), (16, 256, 8)])
def test_weights_in_tensor_core_tiles(n: int, k: int, inner: int) -> None:
    """CUDA's kernel runs on no CPU: what it computes is written out here."""
    group, q = 32, integers(0, 16, n, k)
    packed = tensor_core_tiles(q, inner)
    assert torch.equal(unpack_tensor_core_tiles(packed).long(), q)
    scales = torch.stack([0.05 + tensor(k // group, n).abs(), tensor(k // group, n, seed=1)], -1).bfloat16()
    model = Held(lambda x, w, s: aten._weight_int4pack_mm(x.bfloat16(), w, group, s).float(), w=packed, s=scales)
    program = torch.export.export(model, (tensor(5, k),), strict=False)
    from tilewright.compiler.frontend.importer import import_program
    from tilewright.compiler.interpret import run_graph

    module = import_program(program)
    x = tensor(5, k).bfloat16().float()
    scale, zero = (t.T.float().repeat_interleave(group, 1) for t in scales.unbind(-1))
    expected = (x @ ((q.float() - 8) * scale + zero).T).numpy()
    (got,) = run_graph(module, [x.numpy()], "f32")
    assert np.linalg.norm(got - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize(("group", "bias"), [(64, True), (32, True), (32, False)])
def test_dyn_quant_matmul_4bit(group: int, bias: bool) -> None:
    n, k = 48, 64
    scales = (0.01 + tensor(n, k // group).abs()).to(torch.float32 if group == k else torch.bfloat16)
    weights = integers(0, 256, n, k // 2).to(torch.uint8)
    packed = aten._dyn_quant_pack_4bit_weight(weights, scales, tensor(n) if bias else None, group, k, n)
    model = Held(lambda x, w: aten._dyn_quant_matmul_4bit(x, w, group, k, n), w=packed)
    if packed.dtype != torch.float32:  # an Arm machine with KleidiAI
        with pytest.raises(UnsupportedOps, match="the layout of Arm's KleidiAI kernels"):
            imported(model, tensor(3, k))
        return
    loaded = imported(model, tensor(3, k))
    same_as_eager(loaded, 1e-4)
    assert stored(loaded)["w.i4"] == f"{n}x{k}xi4"


def test_a_packed_weight_that_is_computed_is_refused() -> None:
    def model(x: torch.Tensor, w: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return aten._weight_int4pack_mm_for_cpu(x, w + 1, 32, s)

    packed = torch.zeros(48, 32, dtype=torch.uint8)
    with pytest.raises(UnsupportedOps, match=r"_weight_int4pack_mm_for_cpu.*a packed weight that the model computes"):
        imported(Held(model, w=packed, s=torch.ones(2, 48, 2)), tensor(5, 64))


def test_a_group_of_scale_zero_is_refused() -> None:
    packed = torch.zeros(48, 32, dtype=torch.uint8)
    scales = torch.stack([torch.zeros(2, 48), torch.ones(2, 48)], -1)
    with pytest.raises(UnsupportedOps, match="a group of weights with the scale 0"):
        imported(Held(lambda x, w, s: aten._weight_int4pack_mm_for_cpu(x, w, 32, s), w=packed, s=scales), tensor(5, 64))


def test_packed_weights_need_no_data() -> None:
    """Only their types count for costs."""
    model = Held(lambda x, w, s: aten._weight_int4pack_mm_for_cpu(x, w, 32, s),
                 w=torch.zeros(48, 32, dtype=torch.uint8), s=torch.ones(2, 48, 2)).to("meta")  # fmt: skip
    loaded = imported(model, torch.empty(5, 64, device="meta"), dtype="f16")
    assert stored(loaded)["w.i4"] == "48x64xi4"
    assert stored_bytes(loaded) == bytes_at(4, (48, 64)) + 2 * bytes_at(16, (48, 2))


def test_a_function_is_enough_for_the_ops_of_pt2e() -> None:
    """No library is needed: torch has them itself."""
    assert isinstance(d.quantize_per_tensor.default, torch._ops.OpOverload)
    compare(Function(lambda x: d.convert_element_type.no_fuse(x, torch.float64)), tensor(3))
