"""Palettised weights: the tables, the layers that get them, and the programs that come of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from frontend_check import imported, integers, op_names, relative_error, same_as_eager, tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_models import IMAGE, Attention, Convs, Linears, Tied, X, bytes_at, made, stored, stored_bytes
from tilewright.compiler.dialects import tile
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.frontend.palettes import BITS, k_means, lookup, nearest, palettise, to_palettes
from tilewright.compiler.frontend.sources import load
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

# ---------------------------------------------------------------- tables


def squared_error(values: np.ndarray, centres: np.ndarray) -> float:
    return float(((values - centres[nearest(values, centres)]) ** 2).sum())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-100, 100, width=16), min_size=1, max_size=60), st.sampled_from([2, 4, 8]))
def test_centres_are_ascending_means_of_what_is_nearest(numbers: list[float], k: int) -> None:
    values = np.array(numbers, np.float32)
    centres = k_means(values, k)
    assert centres.shape == (k,) and (np.diff(centres) >= 0).all()
    if len(set(numbers)) <= k:
        assert squared_error(values, centres) == 0.0
    else:
        index = nearest(values, centres)
        for i in np.unique(index):
            np.testing.assert_allclose(centres[i], values[index == i].mean(dtype=np.float64), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("k", [2, 4, 8, 16, 64, 256])
def test_k_means_beats_even_steps(k: int) -> None:
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    even = np.linspace(values.min(), values.max(), k).astype(np.float32)
    assert squared_error(values, k_means(values, k)) < 0.8 * squared_error(values, even)


def test_two_centres_of_two_heaps() -> None:
    values = np.array([-1.1, -1.0, -0.9, 4.0, 5.0, 6.0], np.float32)
    np.testing.assert_allclose(k_means(values, 2), [-1.0, 5.0], atol=1e-6)


def test_nearest_is_the_nearest() -> None:
    values, centres = (
        np.random.default_rng(1).standard_normal(500),
        np.sort(np.random.default_rng(2).standard_normal(9)),
    )
    np.testing.assert_array_equal(nearest(values, centres), np.abs(values[:, None] - centres).argmin(1))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group", [1, 3, 7, 13])
def test_a_table_for_each_group_of_channels(bits: int, group: int) -> None:
    weight = tensor(13, 5, 3)
    index, table = to_palettes(weight, bits, group)
    assert index.dtype == torch.uint8 and index.shape == weight.shape and int(index.max()) < 1 << bits
    assert table.shape == (-(-13 // group), 1, 1, 1 << bits)
    made = lookup(index, table, (group, 5, 3))
    for row in range(13):
        assert set(made[row].flatten().tolist()) <= set(table[row // group].flatten().tolist())
    again = to_palettes(weight, bits, group)
    assert torch.equal(index, again[0]) and torch.equal(table, again[1])


def test_eight_bits_are_close_and_one_bit_is_two_numbers() -> None:
    weight = tensor(40, 50)
    errors = [float((lookup(*to_palettes(weight, b, 40), (40, 50)) - weight).norm() / weight.norm()) for b in BITS]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 and 0.5 < errors[0] < 0.7  # sqrt(1 - 2 / pi) = 0.603 for normal numbers


# ---------------------------------------------------------------- models

MODELS: dict[str, tuple[Any, tuple[torch.Tensor, ...]]] = {
    "linears": (Linears, (X,)),
    "convs": (Convs, (IMAGE,)),
    "attention": (Attention, (tensor(2, 7, 32),)),
    "tied": (Tied, (integers(0, 37, 2, 5),)),
}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group", [None, 1, 5])
@pytest.mark.parametrize("name", MODELS)
def test_a_palettised_model(name: str, bits: int, group: int | None) -> None:
    kind, args = MODELS[name]
    model = palettise(made(kind), bits, group)
    layers = {
        id(m.weight): m.weight.shape
        for m in made(kind).modules()
        if isinstance(m, (nn.Linear, nn.Embedding, nn.Conv2d))
    }
    other = sum(p.numel() * 2 for n, p in model.named_parameters() if "original" not in n)
    other += sum(b.numel() * 2 for b in model.buffers() if b.is_floating_point())
    loaded = imported(model, *args, dtype="f16")
    same_as_eager(loaded, 1e-5, "f32")
    tables = sum(-(-s[0] // min(group or s[0], s[0])) * (2 << bits) for s in layers.values())
    assert "lookup" in op_names(loaded.module)
    assert stored_bytes(loaded) == bytes_at(bits, *layers.values()) + tables + other
    assert {t.rpartition("x")[2] for n, t in stored(loaded).items() if n.endswith("original0")} <= {f"ui{bits}"}


def test_the_weights_are_those_of_the_table() -> None:
    model = made(Linears)
    before = model.a.weight.detach().clone()
    assert palettise(model, 4) is model
    assert model.a.weight.unique().numel() == 16 and model.a.bias.numel() == 96
    assert float((model.a.weight - before).norm() / before.norm()) < 0.12
    assert not any(p.requires_grad for n, p in model.named_parameters() if "original" in n)


def test_layers_may_be_chosen() -> None:
    model = palettise(made(Convs), 2, layers=(nn.Conv2d,), where=lambda name, layer: name != "stem")
    changed = {n.partition(".")[0] for n, _ in model.named_parameters() if "original" in n}
    assert changed == {"one", "two"}


def test_a_tied_weight_stays_tied() -> None:
    loaded = imported(palettise(made(Tied), 4), integers(0, 37, 2, 5))
    assert sum(t == "37x20xui4" for t in stored(loaded).values()) == 1


@pytest.mark.parametrize("group", [None, 1, 5])
def test_rows_of_a_table_are_decoded_after_they_are_picked(group: int | None) -> None:
    """At every level; 5 rows of 37 share a palette, and the last two have one of their own."""
    loaded = imported(palettise(made(Tied), 4, group), torch.tensor([[0, 4, 5, 34], [35, 36, 7, 1]]), dtype="f16")
    inputs, expected = example_inputs(loaded), run_eager(loaded, "f32")
    runs: dict[str, Any] = {"graph": run_graph, "tile": run_tile, "soc": run_soc}
    for level, run in runs.items():
        compile_module(loaded.module, load_target("m4"), (), level)
        if level == "tile":
            labels = [op.attributes["label"] for op in loaded.module.main.body if isinstance(op, tile.Loop)]
            assert labels[-3:] == ["gather+lookup", "lookup+matmul+tanh", "lookup+matmul"]
        for got, want in zip(run(loaded.module, inputs, "f32"), expected, strict=True):
            assert relative_error(got, want) < 1e-5, level


def test_a_weight_that_is_assigned_gets_a_palette() -> None:
    model = palettise(made(Linears), 1)
    model.a.weight = torch.where(tensor(96, 64) > 0, 3.0, -2.0)
    assert set(model.a.weight.flatten().tolist()) == {-2.0, 3.0}


def test_without_data() -> None:
    """The types are all that costs need."""
    expected = {"a.parametrizations.weight.original0": "96x64xui3", "a.parametrizations.weight.original1": "12x1x8xf16"}
    with torch.device("meta"):
        on_meta = Linears().eval()
    with FakeTensorMode():
        fake, x = Linears().eval(), torch.empty(5, 64)
    for model, args in ((on_meta, torch.empty(5, 64, device="meta")), (fake, x)):
        loaded = imported(palettise(model, 3, 8), args, dtype="f16")
        assert expected.items() <= stored(loaded).items()


def test_an_archive_of_a_palettised_model(tmp_path: Path) -> None:
    model = palettise(made(Convs), 3, 4)
    torch.export.save(torch.export.export(model, (IMAGE,), strict=False), tmp_path / "model.pt2")
    loaded = load(str(tmp_path / "model.pt2"))
    same_as_eager(loaded, 1e-5, "f32")
    assert "12x12x3x3xui3" in stored(loaded).values()


def test_a_copy_computes_the_same() -> None:
    model = palettise(made(Attention), 6)
    x = tensor(2, 7, 32)
    assert torch.equal(copy.deepcopy(model)(x), model(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: palettise(made(Linears), 5), "indices of 1, 2, 3, 4, 6, 8 bits, not 5"),
        (lambda: palettise(made(Linears), 4, 0), "group is a number of output channels .* not 0"),
        (lambda: palettise(made(Linears), 4, True), "group is a number of output channels"),
        (lambda: palettise(nn.Sequential(nn.ReLU())), "the model has no Linear or .* to palettise"),
        (lambda: palettise(palettise(made(Linears))), "the weight of a is parametrised already"),
        (lambda: palettise(nn.Sequential(nn.Linear(2, 2, dtype=torch.complex64))), "0 has no weight of floats"),
        (lambda: palettise(_with(made(Linears), float("nan"))), "the weight of b: infinities and NaN"),
    ],
)
def test_what_cannot_be_palettised(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change()


@pytest.mark.parametrize(("table", "block"), [((2, 1, 4), (3, 6)), ((2, 4), (3, 6)), ((2, 1, 4), (0, 6)),
                                              ((2, 1, 4), (4,)), ((2, 1, 0), (4, 6))])  # fmt: skip
def test_a_table_that_does_not_fit(table: tuple[int, ...], block: tuple[int, ...]) -> None:
    index = torch.zeros(8, 6, dtype=torch.uint8)
    for device in ("cpu", "meta"):
        with pytest.raises(ValueError, match="holds no palette for each block"):
            lookup(index.to(device), torch.zeros(table, device=device), block)


def _with(model: Any, value: float) -> Any:
    with torch.no_grad():
        model.b.weight[0, 0] = value
    return model
