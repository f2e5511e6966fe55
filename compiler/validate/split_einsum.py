"""Attention as Core ML's Stable Diffusion runs it on the Neural Engine: one head at a time, all of its scores a tensor.

apple/ml-stable-diffusion, SPLIT_EINSUM: the scores of each head, scaled, a softmax over the keys, and the product with
the values. SPLIT_EINSUM_V2 takes 512 queries of a head at a time, those that are left over with the last ones. There
channels are the second axis, here they are the last one; the products and what lies between them are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 512  # queries


@dataclass(frozen=True)
class SplitEinsum:
    """An attention processor of diffusers: `chunk` queries at a time, or all of them (None)."""

    chunk: int | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """hidden_states[batch, queries, channels], encoder_hidden_states[batch, keys, channels of the text]."""
        if attention_mask is not None or hidden_states.ndim != 3 or attn.norm_q is not None or attn.norm_k is not None:
            raise NotImplementedError("attention over tokens without a mask and without norms of queries and keys")
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source)
        heads = zip(*(x.chunk(attn.heads, dim=-1) for x in (q, k, v)), strict=True)
        y = torch.cat([self.head(*qkv) for qkv in heads], dim=-1)
        return attn.to_out[0](y)

    def head(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One head: q[batch, queries, depth], k and v[batch, keys, depth]."""
        scale, queries = q.shape[-1] ** -0.5, q.shape[1]
        if self.chunk is None or queries <= self.chunk:
            return ((q @ k.transpose(1, 2)) * scale).softmax(dim=-1) @ v
        parts = q.split(self.chunk, dim=1)
        return torch.cat([((part @ k.transpose(1, 2)) * scale).softmax(dim=-1) @ v for part in parts], dim=1)


FORMS = {"split_einsum": SplitEinsum(), "split_einsum_v2": SplitEinsum(CHUNK)}


def with_attention(model: nn.Module, form: str) -> nn.Module:
    """The model with the attention of that form, which is one of FORMS. Raises AttributeError for a model that is not
    from diffusers."""
    model.set_attn_processor(FORMS[form])  # type: ignore[operator]
    return model
