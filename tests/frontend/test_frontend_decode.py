"""Language models that read a prompt or make a token: static caches, masks and positions of many kinds, experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from frontend_check import imported, relative_error, same_as_eager
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.frontend.importer import import_program
from tilewright.compiler.frontend.sources import Loaded, load
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate
from transformers.integrations.executorch import (
    TorchExportableModuleForDecoderOnlyLM,
    TorchExportableModuleWithStaticCache,
)

CONTEXT = 24
LINE = 64  # bytes that reach memory together
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
    "max_position_embeddings": 64,
}


def causal_lm(name: str, **config: Any) -> Any:
    """A small model of transformers with random weights."""
    torch.manual_seed(0)
    made = getattr(transformers, f"{name}TextConfig", None) or getattr(transformers, f"{name}Config")
    model = getattr(transformers, f"{name}ForCausalLM")
    made = model(made(**{**SMALL, **config})).eval()
    made.generation_config.use_cache = True
    made.generation_config.cache_implementation = "static"
    made.generation_config.cache_config = {"batch_size": 1, "max_cache_len": CONTEXT, "device": "cpu"}
    return made


def cached(name: str, tokens: int, **config: Any) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """transformers' own wrapper around a static cache, and inputs for the tokens after the fifth."""
    model = causal_lm(name, **config)
    wrapper = TorchExportableModuleForDecoderOnlyLM(model, batch_size=1, max_cache_len=CONTEXT, device="cpu")
    with torch.no_grad():
        for key, buffer in wrapper.model.named_buffers():
            if "cache" in key:
                buffer.normal_(generator=torch.Generator().manual_seed(2))
    ids = torch.randint(0, 50, (1, tokens), generator=torch.Generator().manual_seed(1))
    return wrapper.model, {"input_ids": ids, "cache_position": torch.arange(5, 5 + tokens)}


def check_levels(loaded: Loaded) -> tuple[list[str], Any]:
    """Every level gives eager's numbers; gives the labels of the loops, and the timing."""
    inputs, expected = example_inputs(loaded), run_eager(loaded, "f32")
    target = load_target("m4")
    run: dict[str, Callable[..., list[Any]]] = {"graph": run_graph, "tile": run_tile, "soc": run_soc}
    labels: list[str] = []
    for level in ("graph", "tile", "soc"):
        if level != "graph":
            compile_module(loaded.module, target, (), level)
        if level == "tile":
            labels = [str(op.attributes["label"]) for op in loaded.module.main.body if isinstance(op, tile.Loop)]
        for got, want in zip(run[level](loaded.module, inputs, "f32"), expected, strict=True):
            assert relative_error(got, want) < 1e-5, level
    return labels, simulate(loaded.module, target)


# ---------------------------------------------------------------- static caches


@pytest.mark.parametrize("tokens", [1, 6])
def test_decode_and_prefill_through_transformers_wrapper(tokens: int) -> None:
    model, inputs = cached("Llama", tokens)
    loaded = imported(model, dtype="f16", **inputs)
    assert [str(a.name) for a in loaded.module.main.args[:2]] == ["input_ids", "cache_position"]
    states = {str(a.name) for a in loaded.module.main.args[2:]}
    assert states == {f"state.{n}_{i}" for n in ("key_cache", "value_cache", "cumulative_length") for i in (0, 1)}
    labels, timing = check_levels(loaded)
    assert "copy" not in labels, "the caches are updated in place"
    scatters = [t for t in timing.tasks if t.label == "scatter"]
    assert len(scatters) == 4
    value = 2 * tokens * 8 * 2  # heads, tokens, dim, bytes
    assert all(t.bytes <= value + (2 + 2 * tokens) * LINE for t in scatters), "only what is written is paid for"


def test_a_program_that_transformers_exported_is_taken_as_it_is() -> None:
    model = causal_lm("Llama", num_hidden_layers=1)
    wrapper = TorchExportableModuleForDecoderOnlyLM(model, batch_size=1, max_cache_len=CONTEXT, device="cpu")
    inputs = {"input_ids": torch.tensor([[7]]), "cache_position": torch.tensor([5])}
    program = wrapper.export(**inputs)
    loaded = Loaded("callable", "llama", import_program(program), program.module(), (), inputs, program)
    assert len(loaded.module.main.outputs) == 4
    same_as_eager(loaded)


def test_tokens_one_by_one_are_the_prompt_at_once() -> None:
    """The state that one step gives is the next one's: logits and caches end as those of a prefill."""
    one, inputs = cached("Qwen2", 1)
    step = imported(one, **inputs)
    many, prompt = cached("Qwen2", 4)
    prefill = imported(many, **{**prompt, "cache_position": torch.arange(4)})
    states = [np.zeros_like(a) for a in example_inputs(step)[2:]]
    for i in range(4):
        given = [prompt["input_ids"][:, i : i + 1].numpy(), np.array([i]), *states]
        logits, *states = run_graph(step.module, given)
    whole = [prompt["input_ids"].numpy(), np.arange(4), *(np.zeros_like(a) for a in example_inputs(prefill)[2:])]
    expected = run_graph(prefill.module, whole)
    assert relative_error(logits, expected[0][:, -1:]) < 1e-5
    for a, b in zip(states, expected[1:], strict=True):
        assert relative_error(a, b) < 1e-5


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Mistral", {"sliding_window": 8}),
        ("Gemma2", {"sliding_window": 8, "head_dim": 16}),
        ("Gemma3", {"sliding_window": 8, "head_dim": 16}),
        ("Qwen3", {"head_dim": 16}),
        ("Phi", {"partial_rotary_factor": 0.5}),
        ("Mixtral", {"num_local_experts": 4}),
        ("Llama4", {"intermediate_size_mlp": 48, "num_local_experts": 2, "head_dim": 8, "pad_token_id": 0}),  # complex
        ("GptOss", {"sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}),
    ],
)
def test_caches_of_other_families(name: str, config: dict[str, Any]) -> None:
    model, inputs = cached(name, 3, **config)
    same_as_eager(imported(model, **inputs), tolerance=2e-5)


class Cache(torch.nn.Module):
    """Writes one step into a cache [1, heads, positions, dim] in one of the ways that models do."""

    def __init__(self, write: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]):
        super().__init__()
        self.write = write
        self.register_buffer("cache", torch.randn(1, 2, 16, 8, generator=torch.Generator().manual_seed(0)))

    def forward(self, k: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        self.write(self.cache, k, position)
        return torch.softmax(self.cache.sum(-1), -1)


def by_index_copy(cache: torch.Tensor, k: torch.Tensor, position: torch.Tensor) -> None:
    cache.index_copy_(2, position, k)


def by_item(cache: torch.Tensor, k: torch.Tensor, position: torch.Tensor) -> None:
    cache[:, :, position] = k


def by_put(cache: torch.Tensor, k: torch.Tensor, position: torch.Tensor) -> None:
    torch.ops.aten.index_put_(cache, [None, None, position], k)


def by_slice(cache: torch.Tensor, k: torch.Tensor, position: torch.Tensor) -> None:
    cache[:, :, 3:4] = k


def by_copy(cache: torch.Tensor, k: torch.Tensor, position: torch.Tensor) -> None:
    cache.narrow(2, 5, 1).copy_(k)


@pytest.mark.parametrize("write", [by_index_copy, by_item, by_put, by_slice, by_copy])
def test_every_way_to_write_a_cache_is_in_place(write: Callable[..., Any]) -> None:
    loaded = imported(Cache(write), torch.randn(1, 2, 1, 8), torch.tensor([7]))
    assert [str(a.name) for a in loaded.module.main.args] == ["k", "position", "state.cache"][
        : len(loaded.module.main.args)
    ]
    labels, timing = check_levels(loaded)
    assert "copy" not in labels
    (task,) = [t for t in timing.tasks if t.label in ("scatter", "update")]
    assert task.bytes < 16 * 2 * 8 * 4, "less than the cache"


def test_the_example_of_a_decoder() -> None:
    dims = {"context": 16, "layers": 2, "hidden": 32, "heads": 4, "kv_heads": 2, "ffn": 48, "vocab": 50}
    labels, _ = check_levels(load("llama_decode", "f32", dims))
    assert labels.count("scatter") == 4 and "copy" not in labels


# ---------------------------------------------------------------- positions


class Logits(torch.nn.Module):
    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(ids, use_cache=False).logits


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Bloom", {"n_layer": 2, "n_head": 4}),  # ALiBi
        ("Mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64}),  # ALiBi
        ("GPTJ", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 64}),  # interleaved pairs
        ("GPTNeoX", {"rotary_pct": 0.5, "num_key_value_heads": 4}),  # part of each head
        ("Cohere", {}),  # interleaved pairs
        ("Mistral", {"sliding_window": 4}),
        ("Llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
                                       "high_freq_factor": 4.0, "original_max_position_embeddings": 16}}),
        ("Llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
                                       "original_max_position_embeddings": 16}}),
        ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}),
    ],
    ids=lambda x: x if isinstance(x, str) else x.get("rope_parameters", {}).get("rope_type", ""),
)  # fmt: skip
def test_positions_of_every_kind(name: str, config: dict[str, Any]) -> None:
    model = Logits(causal_lm(name, **config))
    ids = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    same_as_eager(imported(model, ids), tolerance=2e-5)


# ---------------------------------------------------------------- experts


def mixture(implementation: str, tokens: int) -> Loaded:
    config = transformers.MixtralConfig(**{**SMALL, "num_local_experts": 8, "num_experts_per_tok": 2})
    torch.manual_seed(0)
    model = transformers.MixtralForCausalLM._from_config(config, experts_implementation=implementation).eval()
    return imported(Logits(model), torch.randint(0, 50, (1, tokens), generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("tokens", [1, 12])
def test_experts_are_costed_for_the_tokens_they_get(tokens: int) -> None:
    loaded = mixture("grouped_mm", tokens)
    rows = 2 * tokens
    grouped = [op for op in loaded.module.main.body if isinstance(op, graph.GroupedMatmul)]
    assert [op.macs() for op in grouped] == [rows * 32 * 96, rows * 48 * 32] * 2
    used = min(rows, 8)
    assert loaded.assumptions == (
        f"routing is balanced: the {rows} rows of a grouped_matmul (tokens times experts a token) spread evenly over "
        f"{used} of 8 experts, and the weights of those {used} are read",
    )
    _, timing = check_levels(loaded)
    first = next(t for t in timing.tasks if t.label == "grouped_matmul")
    assert first.macs == rows * 32 * 96
    assert used * 32 * 96 * 4 <= first.bytes < used * 32 * 96 * 4 + rows * (32 + 96) * 4 + 1024


def test_experts_whose_weights_are_gathered() -> None:
    same_as_eager(mixture("batched_mm", 3))


def test_rows_may_be_routed_in_any_way() -> None:
    x, w = torch.randn(6, 4), torch.randn(3, 4, 5)
    for ends in ((2, 4, 6), (0, 6, 6), (0, 0, 3)):
        got = imported(
            lambda x, w, e: torch.ops.transformers.grouped_mm_fallback(x, w, e),
            x,
            w,
            torch.tensor(ends, dtype=torch.int32),
        )
        assert any(isinstance(op, graph.GroupedMatmul) for op in got.module.main.body)
        y = run_graph(got.module, example_inputs(got))[0]
        starts = (0, *ends[:-1])
        for g, (a, b) in enumerate(zip(starts, ends, strict=True)):
            np.testing.assert_allclose(y[a:b], (x[a:b] @ w[g]).numpy(), rtol=1e-5, atol=1e-6)
        assert not y[ends[-1] :].any()


def test_the_older_wrapper() -> None:
    model = causal_lm("Llama")
    wrapper = TorchExportableModuleWithStaticCache(model, batch_size=1, max_cache_len=CONTEXT, device="cpu")
    inputs = {"input_ids": torch.tensor([[3]]), "cache_position": torch.tensor([2])}
    same_as_eager(imported(wrapper, **inputs))
