"""Attention head by head, as it was measured, against that of diffusers."""

from __future__ import annotations

import pytest
import torch
from optional_packages import wanted
from tilewright.compiler.validate.split_einsum import FORMS, SplitEinsum, with_attention
from tilewright.targets.validation import find_tables
from tilewright.targets.validation.workloads import Network


@pytest.fixture
def attention():
    return wanted("diffusers.models.attention_processor")


@pytest.mark.parametrize("chunk", [None, 8, 7])
@pytest.mark.parametrize("keys", [None, 5])
def test_it_computes_what_diffusers_does(attention, chunk, keys):
    torch.manual_seed(0)
    layer = attention.Attention(24, 20 if keys else None, heads=3, dim_head=8).eval()
    x = torch.randn(2, 23, 24)
    text = torch.randn(2, keys, 20) if keys else None
    expected = layer(x, encoder_hidden_states=text)
    layer.set_processor(SplitEinsum(chunk))
    torch.testing.assert_close(layer(x, encoder_hidden_states=text), expected, rtol=1e-5, atol=1e-6)


def test_masks_are_not_left_out(attention):
    layer = attention.Attention(24, None, heads=3, dim_head=8, processor=SplitEinsum())
    with pytest.raises(NotImplementedError, match="without a mask"):
        layer(torch.randn(1, 4, 24), attention_mask=torch.zeros(1, 4))


def test_a_whole_network_takes_the_form():
    diffusers = wanted("diffusers")
    blocks = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    sizes = {"block_out_channels": (32,), "layers_per_block": 1, "norm_num_groups": 8, "cross_attention_dim": 16}
    torch.manual_seed(0)
    model = diffusers.UNet2DConditionModel(sample_size=8, attention_head_dim=2, **blocks, **sizes).eval()
    inputs = (torch.randn(1, 4, 8, 8), torch.ones(1), torch.randn(1, 5, 16))
    with torch.no_grad():
        expected = model(*inputs, return_dict=False)[0]
        got = with_attention(model, "split_einsum")(*inputs, return_dict=False)[0]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_rows_say_in_which_form_they_were_measured():
    (table,) = find_tables(["apple/e2e_latency"])
    cases = table.find_cases(None) or []
    forms = {(w.name, w.attention) for c in cases if isinstance(w := c.workload, Network) and w.name.startswith("SD")}
    assert forms == {
        ("SD2.1-base UNet step", "split_einsum_v2"),
        ("SDXL-base-ios UNet step", "split_einsum"),
        ("SDXL-base UNet step", ""),
    }
    assert {form for _, form in forms} - {""} == set(FORMS)
