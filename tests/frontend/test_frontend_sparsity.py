"""Sparse weights: what is left out of a model, and the programs that come of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from frontend_check import imported, integers, op_names, relative_error, same_as_eager, tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_models import IMAGE, Attention, Convs, Linears, Tied, X, made, stored
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.frontend.sources import load
from tilewright.compiler.frontend.sparsity import sparsify, to_dense, to_sparse
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import prune

# ---------------------------------------------------------------- what is stored


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 13), min_size=1, max_size=4), st.floats(0, 1), st.integers(0, 9))
def test_the_least_are_pruned_and_the_others_kept(shape: list[int], zeros: float, seed: int) -> None:
    weight = tensor(*shape, seed=seed)
    mask, nonzeros = to_sparse(weight, zeros)
    made = to_dense(mask, nonzeros)
    pruned = int(weight.numel() * zeros)
    assert mask.dtype == torch.bool and int(mask.sum()) == nonzeros.numel() == weight.numel() - pruned
    assert torch.equal(made[mask], weight[mask]) and not made[~mask].any()
    assert not pruned or not nonzeros.numel() or weight[~mask].abs().max() <= nonzeros.abs().min()


def test_zeros_that_are_there_are_left_out() -> None:
    weight = torch.tensor([[0.0, -2.0, 0.0], [3.0, 0.0, -0.0]])
    mask, nonzeros = to_sparse(weight)
    assert mask.tolist() == [[False, True, False], [True, False, False]] and nonzeros.tolist() == [-2.0, 3.0]


# ---------------------------------------------------------------- models

SHAPED = [  # odd sizes: primes and 1
    lambda: (nn.Linear(1, 7), tensor(3, 1)),
    lambda: (nn.Linear(31, 1, bias=False), tensor(5, 31)),
    lambda: (nn.Linear(13, 17), tensor(2, 3, 13)),
    lambda: (nn.Conv1d(3, 7, 5, padding=2), tensor(1, 3, 11)),
    lambda: (nn.Conv2d(5, 11, 3, stride=2, padding=1), tensor(2, 5, 7, 13)),
    lambda: (nn.Conv2d(6, 9, (1, 3), groups=3, bias=False), tensor(1, 6, 1, 5)),
    lambda: (nn.Conv3d(2, 3, 2), tensor(1, 2, 3, 3, 5)),
    lambda: (nn.Sequential(nn.Conv2d(3, 7, 3, bias=False), nn.BatchNorm2d(7), nn.ReLU()), tensor(1, 3, 5, 5)),
]


@pytest.mark.parametrize("dtype", ["f16", "f32"])
@pytest.mark.parametrize("case", range(len(SHAPED)))
def test_every_level_is_as_eager(case: int, dtype: str) -> None:
    loaded = imported(sparsify(made(lambda: SHAPED[case]()[0]), 0.75), SHAPED[case]()[1], dtype=dtype)
    same_as_eager(loaded, 1e-5, "f32")
    inputs, expected = example_inputs(loaded), run_eager(loaded, "f32")
    runs: dict[str, Any] = {"graph": run_graph, "tile": run_tile, "soc": run_soc}
    for engines in (("ane",), ("gpu",), ("cpu",)):
        again = imported(loaded.model, SHAPED[case]()[1], dtype=dtype)
        for level, run in runs.items():
            compile_module(again.module, load_target("m4"), engines, level)
            for got, want in zip(run(again.module, inputs, "f32"), expected, strict=True):
                assert relative_error(got, want) < 1e-5, (engines, level)


@pytest.mark.parametrize("zeros", [0.5, 0.9])
@pytest.mark.parametrize(("kind", "x"), [(Linears, X), (Convs, IMAGE), (Attention, tensor(2, 7, 32))])
def test_a_sparse_model(kind: Any, x: Any, zeros: float) -> None:
    plain = made(kind)
    loaded = imported(sparsify(made(kind), zeros), *(x if isinstance(x, tuple) else (x,)), dtype="f16")
    same_as_eager(loaded, 1e-5, "f32")
    layers = [m.weight for m in plain.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    sparse = [op.result.type for op in loaded.module.main.body if getattr(op, "key", "").endswith(".dense")]
    assert "to_dense" in op_names(loaded.module)
    left = [w.numel() - int(w.numel() * zeros) for w in layers]
    assert sorted(t.nonzeros for t in sparse) == sorted(left)
    assert sum(t.bytes for t in sparse) == sum(-(-(w.numel() + 16 * n) // 8) for w, n in zip(layers, left, strict=True))


def test_what_torch_pruned_is_left_out() -> None:
    model = made(Linears)
    prune.l1_unstructured(model.a, "weight", amount=0.5)
    prune.ln_structured(model.b, "weight", amount=0.75, n=2, dim=0)
    expected = model(X)
    loaded = imported(sparsify(model), X)
    assert torch.equal(model(X), expected)
    same_as_eager(loaded)
    kinds = stored(loaded)
    assert kinds["a.parametrizations.weight.original1.dense"] == '96x64xf32, "density 1/2"'
    counts = {op.key[0]: op.result.type.nonzeros for op in loaded.module.main.body if "dense" in getattr(op, "key", "")}
    assert counts == {"a": 96 * 64 // 2, "b": 32 * 96 // 4}


def test_weights_whose_zeros_save_nothing_stay() -> None:
    model = made(Linears)
    with torch.no_grad():
        model.a.weight[:48] = 0
        model.b.weight[0, 0] = 0  # a mask of 32 * 96 bits would take more than its 32 bits
    sparsify(model)
    assert {n.partition(".")[0] for n, _ in model.named_parameters() if "original" in n} == {"a"}


def test_layers_that_share_a_weight_go_on_sharing_it() -> None:
    model = sparsify(made(Tied), 0.5, layers=(nn.Linear, nn.Embedding))
    loaded = imported(model, integers(0, 37, 2, 5))
    same_as_eager(loaded)
    assert model.head.weight.equal(model.embed.weight)
    assert sum(t == '37x20xf32, "density 1/2"' for n, t in stored(loaded).items() if n.endswith("dense")) == 1


def test_a_weight_that_is_assigned_is_pruned_as_much() -> None:
    model = sparsify(made(Linears), 0.5)
    model.a.weight = torch.arange(96 * 64.0).reshape(96, 64)
    assert int((model.a.weight == 0).sum()) == 96 * 32 and model.a.weight[-1, -1] == 96 * 64 - 1


def test_without_data() -> None:
    """The types are all that costs need."""
    with torch.device("meta"):
        on_meta = Linears().eval()
    with FakeTensorMode():
        fake, x = Linears().eval(), torch.empty(5, 64)
    for model, args in ((on_meta, torch.empty(5, 64, device="meta")), (fake, x)):
        loaded = imported(sparsify(model, 0.75), args, dtype="f16")
        kinds = [str(op.result.type) for op in loaded.module.main.body if "dense" in getattr(op, "key", "")]
        assert kinds == ['tensor<96x64xf16, "density 1/4">', 'tensor<32x96xf16, "density 1/4">']


def test_an_archive_of_a_sparse_model(tmp_path: Path) -> None:
    model = sparsify(made(Convs), 0.75)
    torch.export.save(torch.export.export(model, (IMAGE,), strict=False), tmp_path / "model.pt2")
    loaded = load(str(tmp_path / "model.pt2"))
    same_as_eager(loaded, 1e-5, "f32")
    assert any("density" in str(op.result.type) for op in loaded.module.main.body if op.results)


def test_a_copy_computes_the_same() -> None:
    model, x = sparsify(made(Attention), 0.6), tensor(2, 7, 32)
    assert torch.equal(copy.deepcopy(model)(x), model(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: sparsify(made(Linears), 1.5), "from 0 to 1, not 1.5"),
        (lambda: sparsify(made(Linears)), "no Linear or .* to sparsify whose zeros would save anything"),
        (lambda: sparsify(nn.Sequential(nn.ReLU()), 0.5), "the model has no Linear or .* to sparsify"),
        (lambda: sparsify(sparsify(made(Linears), 0.5), 0.5), "the weight of a is parametrised already; sparsify"),
        (lambda: sparsify(nn.Sequential(nn.Linear(2, 2, dtype=torch.complex64)), 0.5), "0 has no weight of floats"),
        (lambda: sparsify(nn.Linear(3, 3, device="meta")), "the weight of the model: it has no data"),
        (lambda: to_dense(torch.ones(2, 2, dtype=torch.bool), torch.ones(3)), "3 numbers are not those of a mask of 4"),
        (lambda: to_dense(torch.ones(2, 2), torch.ones(3)), "are no sparse tensor"),
    ],
)
def test_what_cannot_be_sparse(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change()
