"""What the importer makes: structure, names, locations, dtypes, and the errors for what it cannot take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from frontend_check import Function, compare, imported, integers, op_names, same_as_eager, tensor
from tilewright.compiler.dialects import graph
from tilewright.compiler.frontend.errors import UnsupportedOps
from tilewright.compiler.frontend.lowerings import LOWERINGS, lowers
from tilewright.compiler.ir import Module
from torch._subclasses.fake_tensor import FakeTensorMode

X = tensor(2, 8)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU())
        self.head = torch.nn.Linear(8, 3)
        self.table = tensor(100)
        self.names = torch.tensor([2, 0, 1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        return self.head(y)[:, self.names] + self.table[:3]


def find(module: Module, name: str) -> Any:
    return next(op for op in module.main.body if op.name == f"graph.{name}")


def test_locations_name_node_module_and_line() -> None:
    module = imported(Net(), X).module
    lines = Path(__file__).read_text().splitlines()
    relu, matmul = find(module, "relu"), find(module, "matmul")
    assert (relu.location.node, relu.location.module) == ("relu", "layers.1")
    assert (matmul.location.node, matmul.location.module) == ("linear", "layers.0")
    assert relu.location.file.endswith("test_frontend_import.py")
    assert lines[relu.location.line - 1].strip() == "y = self.layers(x)"
    assert find(module, "parameter").location.node == "p_layers_0_weight"


def test_parameters_are_the_models_own() -> None:
    net = Net()
    parameters = imported(net, X).module.parameters
    assert parameters["head.weight"].data_ptr() == net.head.weight.data_ptr()
    assert "constant.table" in parameters and "constant.names" not in parameters


def test_small_constants_are_written_out() -> None:
    module = compare(Net(), X)
    assert any(op.value == (2, 0, 1) for op in module.main.body if isinstance(op, graph.Constant))


def test_layers_stay_whole() -> None:
    encoder = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
    names = op_names(compare(encoder, tensor(1, 5, 16)))
    assert [n for n in names if n in ("attention", "layer_norm", "gelu", "matmul")] == (
        ["matmul", "attention", "matmul", "layer_norm", "matmul", "gelu", "matmul", "layer_norm"]
    )


def test_tied_weights_are_one_parameter() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(10, 4)
            self.head = torch.nn.Linear(4, 10, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.embedding(ids))

    assert len(compare(Tied(), integers(0, 10, 1, 3)).parameters) == 1


def test_unused_work_is_dropped() -> None:
    module = compare(lambda x: (x.exp(), x + 1)[1], X)
    assert op_names(module) == ["add"]


def test_identities_vanish() -> None:
    module = compare(lambda x: F.dropout(x.contiguous().clone().detach().to(x.dtype), 0.1, False) + 1, X)
    assert op_names(module) == ["add"]


def test_inputs_and_outputs_are_flattened_tensors() -> None:
    def function(pair: Any, scale: int, *, extra: Any, flag: bool) -> Any:
        return {"sum": pair[0] + pair[1] * scale, "rest": [extra["a"] - 1, None, 3]} if flag else None

    loaded = imported(function, (X, X + 1), 3, flag=True, extra={"a": X[0]})
    same_as_eager(loaded)
    assert [str(a.type) for a in loaded.module.main.args] == ["tensor<2x8xf32>"] * 2 + ["tensor<8xf32>"]
    assert len(loaded.module.main.outputs) == 2


def test_an_input_may_be_an_output() -> None:
    compare(lambda x, y: (y, x, x.view(16)), X, X + 1)


def test_f16_converts_weights_and_inputs() -> None:
    loaded = imported(Net(), X, dtype="f16")
    assert loaded.module.parameters["head.weight"].dtype == torch.float16
    assert str(loaded.module.main.args[0].type) == "tensor<2x8xf16>"
    same_as_eager(imported(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Softmax(-1)), X, dtype="f16"), 2e-3)
    same_as_eager(imported(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()), X, dtype="f16"), 1e-5, "f32")


def test_a_number_that_only_a_check_reads_is_nothing() -> None:
    def model(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        torch._check(lengths.max().item() <= x.shape[0])
        return x + lengths

    assert op_names(compare(model, X, torch.ones(8, dtype=torch.int64))) == ["cast", "add"]


def test_a_weight_that_a_hook_makes_is_compared_in_f32() -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        model = torch.nn.utils.weight_norm(torch.nn.Linear(8, 8))
    same_as_eager(imported(model, X, dtype="f16"), 1e-5, "f32")


def test_f16_converts_a_buffer_that_is_a_view() -> None:
    class Positions(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", X.unsqueeze(0))
            self.register_buffer("same", self.table)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.table * self.same

    model = Positions()
    same_as_eager(imported(model, X, dtype="f16"), 2e-3)
    assert model.table is model.same


def test_f16_and_f32_meet_by_a_cast() -> None:
    loaded = imported(lambda x: x.float() * x + x.double().sum(), X, dtype="f16")
    same_as_eager(loaded, 1e-3)
    assert {op.to for op in loaded.module.main.body if isinstance(op, graph.Cast)} == {"f32", "f64"}


# ---------------------------------------------------------------- attention

Q, K, V = tensor(2, 8, 6, 4), tensor(2, 2, 7, 4), tensor(2, 2, 7, 4, seed=1)
MASK = integers(0, 2, 6, 7).bool() | torch.eye(6, 7, dtype=torch.bool)


def gqa(mask: Any = None, **options: Any) -> Any:
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True, **options)


@pytest.mark.parametrize(
    "mask",
    [None, MASK, MASK[None, None], MASK.expand(2, 8, 6, 7), torch.where(MASK, 0.5, -math.inf), MASK.expand(2, 1, 6, 7)],
)
def test_grouped_queries(mask: torch.Tensor | None) -> None:
    attention = find(compare(gqa(mask), Q, K, V), "attention")
    assert attention.q.type.shape == (2, 2, 4, 6, 4) and attention.k.type.shape == (2, 2, 1, 7, 4)


def test_grouped_queries_causal() -> None:
    attention = find(compare(gqa(is_causal=True, scale=0.3), Q, K[:, :, :6], V[:, :, :6]), "attention")
    assert attention.causal and attention.scale == 0.3


def test_repeated_heads_are_grouped() -> None:
    """As transformers repeats keys and values: expand, then reshape."""

    def repeat(x: torch.Tensor) -> torch.Tensor:
        b, heads, n, d = x.shape
        return x[:, :, None].expand(b, heads, 4, n, d).reshape(b, heads * 4, n, d)

    module = compare(lambda q, k, v: F.scaled_dot_product_attention(q, repeat(k), repeat(v), attn_mask=MASK), Q, K, V)
    assert find(module, "attention").k.type.shape == (2, 2, 1, 7, 4)
    assert "expand" not in op_names(module)


def test_plain_attention() -> None:
    k, v = tensor(2, 8, 7, 4), tensor(2, 8, 7, 3)
    compare(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=MASK[None]), Q, k, v)
    compare(F.scaled_dot_product_attention, Q[0], k[0], v[0])


# ---------------------------------------------------------------- models without data, and scopes


def test_meta_model_has_no_data_and_needs_none() -> None:
    with torch.device("meta"):
        net, x = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8)), torch.empty(2, 8)
    module = imported(net, x, dtype="f16").module
    assert module.parameters["0.weight"].is_meta
    assert op_names(module) == ["matmul", "batch_norm"]


def test_fake_model() -> None:
    with FakeTensorMode():
        net, x = torch.nn.Linear(8, 8), torch.empty(2, 8)
    module = imported(net, x, dtype="f16").module
    assert str(module.main.outputs[0].type) == "tensor<2x8xf16>"


def test_no_grad_and_autocast_scopes_are_inlined() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            y = x * 2
        with torch.autocast("cpu", enabled=False):
            z = y.float() + 1
        return z + x

    assert op_names(compare(function, X)) == ["mul", "add", "add"]


def test_composites_without_a_lowering_are_decomposed() -> None:
    """The others stay whole, and writes still reach their buffers."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)  # other weights may make a cosine near 0, of which f32 has few digits
            self.norm = torch.nn.BatchNorm1d(8)
            self.linear = torch.nn.Linear(8, 8)
            self.register_buffer("total", torch.zeros(8))

        def forward(self, x: torch.Tensor) -> Any:
            self.total += x.sum(0)
            y = self.norm(self.linear(x))
            return torch.logaddexp(x, y), F.cosine_similarity(x, y), F.scaled_dot_product_attention(x, y, y)

    loaded = imported(Model(), X)
    same_as_eager(loaded)
    assert {"matmul", "batch_norm", "attention"} <= set(op_names(loaded.module))
    assert loaded.module.main.attributes["aliases"] == (3, 1)


# ---------------------------------------------------------------- what cannot be compiled


@torch.library.custom_op("tilewright_tests::shuffle", mutates_args=())
def shuffle(x: torch.Tensor) -> torch.Tensor:
    """An op that nobody else can know."""
    return x.clone()


@torch.library.custom_op("tilewright_tests::measure", mutates_args=())
def measure(x: torch.Tensor) -> list[torch.Tensor]:
    return [x.sum(), x.clone()]


@shuffle.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@measure.register_fake
def _(x: torch.Tensor) -> list[torch.Tensor]:
    return [x.new_empty(()), torch.empty_like(x)]


class Odd(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.ModuleDict({"shuffler": Function(lambda x: shuffle(x) + 1)})

    def forward(self, x: torch.Tensor) -> Any:
        a = self.inner["shuffler"](x)
        return a * shuffle(a), measure(x)[1] @ x.t()


def test_all_unsupported_ops_are_listed_at_once() -> None:
    with pytest.raises(UnsupportedOps) as caught:
        imported(Odd(), X)
    error = caught.value
    assert [n.target for n in error.nodes] == [
        f"tilewright_tests.{n}.default" for n in ("shuffle", "shuffle", "measure")
    ]
    text = str(error)
    assert "the model uses 2 operations that cannot be compiled yet" in text
    assert "test_frontend_import.py" in text and ": return a * shuffle(a), measure(x)[1] @ x.t()" in text
    assert "in inner.shuffler, node shuffle" in text
    assert text.endswith("write them with other operations, or teach the importer: 'Add an op' in README.md")
    assert text.count("tilewright_tests.shuffle.default") == 1


@pytest.mark.parametrize(
    "function, args, reason",
    [
        (lambda x: x[x > 0], (X,), "no fixed shape|nonzero"),
        (lambda x: x.float() * 2, (X.to(torch.uint16),), "a tensor of uint16"),
    ],
)
def test_unsupported_forms_say_why(function: Any, args: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        imported(function, *args)


def test_training_is_refused() -> None:
    class Trains(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.dropout(x, 0.5, training=True)

    with pytest.raises(UnsupportedOps, match=r"dropout in training; call model.eval\(\)"):
        imported(Trains(), X)


def test_a_lowering_takes_a_few_lines() -> None:
    target = torch.ops.aten.sinc.default

    @lowers(target)
    def sinc(e: Any, x: Any) -> Any:
        return e.apply("div", e.apply("sin", e.apply("mul", x, math.pi)), e.apply("mul", x, math.pi))

    try:
        assert op_names(compare(torch.sinc, X)) == ["mul", "sin", "mul", "div"]
    finally:
        del LOWERINGS[target]


class Normed(torch.nn.Module):
    """Asks for f32 by name, as the norms of language models do, and makes a tensor of it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc(F.dropout(x, 0.5, self.training))
        return y * torch.rsqrt(y.to(torch.float32).pow(2).mean(-1, keepdim=True) + 1e-6) + torch.ones(5, dtype=x.dtype)


def test_a_model_that_was_exported_before() -> None:
    """Its graph names types and refuses `eval`; it is computed in the wanted type all the same."""
    x = tensor(4, 6)
    before = torch.export.export(Normed().eval(), (x,), strict=False).module()
    with pytest.raises(NotImplementedError):
        before.eval()
    for dtype in ("f16", "f32", "f16"):
        loaded = imported(torch.nn.Sequential(before), x, dtype=dtype)
        same_as_eager(loaded, 1e-5, "f32")
        assert {v.type.dtype for op in loaded.module.main.body for v in op.results if v.type.rank} == {dtype}
