"""Language models that read a prompt or make a token: the Llama examples at the sizes of published models, OPT and
Qwen3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tilewright.targets.validation.workloads import Generation

from .opt import opt_1_3b_decode, opt_1_3b_prompt
from .packages import MissingDefinition
from .qwen3 import SIZES, qwen3


@dataclass(frozen=True, slots=True)
class Sizes:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int


MODELS = {
    "Llama-2-7B": Sizes(32, 4096, 32, 32, 11008, 32000),
    "Llama-3.2-1B": Sizes(16, 2048, 32, 8, 8192, 128256),
    "Llama-3-8B": Sizes(32, 4096, 32, 8, 14336, 128256),
}


def find_generation(workload: Generation) -> Callable[[], tuple[torch.nn.Module, tuple[Any, ...]]]:
    """What makes the model on the meta device with its example inputs. Raises MissingDefinition."""
    from tilewright.examples.llama import llama
    from tilewright.examples.llama_decode import llama_decode

    if workload.model == "OPT-1.3B":
        if workload.phase == "prefill":
            return lambda: opt_1_3b_prompt(workload.tokens)
        return lambda: opt_1_3b_decode(workload.tokens + 1)
    if workload.model in SIZES:
        return lambda: qwen3(workload.model, workload.phase, workload.tokens)
    if workload.model not in MODELS:
        raise MissingDefinition(f"no definition of '{workload.model}'; give one with --models")
    s = MODELS[workload.model]
    sizes = {
        "layers": s.layers, "hidden": s.hidden, "heads": s.heads, "kv_heads": s.kv_heads, "ffn": s.ffn,
        "vocab": s.vocab, "device": "meta",
    }  # fmt: skip
    if workload.phase == "prefill":
        return lambda: llama(seq=workload.tokens, **sizes)[:2]
    return lambda: llama_decode(context=workload.tokens + 1, **sizes)
