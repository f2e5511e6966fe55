"""Networks that were measured in several calls: which programs those are, on which chip, and what was timed."""

from __future__ import annotations

import re

import pytest
import torch
from tilewright.compiler.dialects.graph import GraphOp
from tilewright.compiler.validate import stories110m
from tilewright.compiler.validate.networks import NETWORKS
from tilewright.compiler.validate.price import Price
from tilewright.compiler.validate.provide import Networks
from tilewright.compiler.validate.summary import Priced
from tilewright.targets.validation import Case, find_tables
from tilewright.targets.validation.apple import ASLEEP_S, CORE_ML_MAC, SWIFT, WAKE_S, XPC, XPC_LAUNCH
from tilewright.targets.validation.case import DEVICE
from tilewright.targets.validation.table import DATA
from tilewright.targets.validation.workloads import Network, Programs

STORIES = "Transformer 12-layer stack (Stories110M)"
WEIGHTS = 4 * 768 * 768 + 3 * 768 * 2048  # of a layer


def cases(begin: str) -> list[Case]:
    (table,) = find_tables(["apple/e2e_latency"])
    return [c for c in table.cases() if c.label.startswith(begin)]


def macs(network: Network) -> int:
    return sum(op.macs() for op in Networks({})(network).main.body if isinstance(op, GraphOp))


# ---------------------------------------------------------------- Stories110M


def test_the_two_calls_of_a_layer_are_the_layer():
    torch.manual_seed(0)
    attention, feed_forward = stories110m.Attention(), stories110m.FeedForward()
    x = torch.randn(1, 256, 768)
    with torch.no_grad():
        first = stories110m.Half(attention)(x)
        second = stories110m.Half(feed_forward)(x + first[..., :768])
        y = (
            x
            + torch.nn.functional.scaled_dot_product_attention(
                *(
                    layer(attention.norm(x)).unflatten(-1, (12, 64)).transpose(1, 2)
                    for layer in (attention.q, attention.k, attention.v)
                ),
                is_causal=True,
            )
            .transpose(1, 2)
            .flatten(2)
            @ attention.out.weight.T
        )
        expected = y + feed_forward(y)[0]
    assert (first.shape[-1], second.shape[-1]) == (6 * 768, 2 * 768 + 3 * 2048)
    torch.testing.assert_close(x + first[..., :768] + second[..., :768], expected, rtol=1e-4, atol=1e-4)


def test_the_calls_have_the_work_of_the_one_program():
    whole, apart = cases(STORIES)
    assert isinstance(whole.workload, Network) and isinstance(apart.workload, Programs)
    assert [c.times for c in apart.workload.calls] == [12, 12]
    work = 12 * (256 * WEIGHTS + 2 * 256 * 256 * 768)
    assert macs(whole.workload) == work == sum(macs(c.network) * c.times for c in apart.workload.calls)


def test_a_call_through_xpc_costs_what_was_found_for_it():
    assert [(c.harness, c.settings) for c in cases(STORIES)] == [(XPC, (XPC_LAUNCH,))] * 2
    (table,) = find_tables(["apple/dispatch_overheads"])
    (row,) = (r for r in (DATA / f"{table.name}.csv").read_text().splitlines() if "maderix Part 3" in r)
    assert XPC_LAUNCH[1] == f"{row.split(',')[1]} us"


def test_each_call_of_a_program_wakes_its_host():
    """A short call's host sleeps little: two calls of a third and of twice the time to fall asleep wake 4/3 times."""
    (_, apart) = cases(STORIES)
    short, long = (Price(s, 0.0, 0.0, "launch") for s in (ASLEEP_S / 3, 2 * ASLEEP_S))
    both = Price(short.model + long.model, 0.0, 0.0, "launch", calls=((short, 1), (long, 1)))
    assert Priced(apart, both).predicted("model") == pytest.approx(both.model + WAKE_S * 4 / 3)
    assert Priced(apart, long).predicted("model") == pytest.approx(long.model + WAKE_S)


# ---------------------------------------------------------------- Whisper in whisper.cpp


def test_whispers_encoding_ends_with_what_the_decoder_takes():
    programs = {c.row: (c.engines, c.workload) for c in cases("Whisper")}
    direct = [w for _, w in programs.values() if isinstance(w, Network)]
    assert [w.name for w in direct] == ["Whisper-tiny encoder"]  # ANEForge runs the encoder alone
    for engines, workload in programs.values():
        if isinstance(workload, Programs):
            encoder, rest = workload.calls
            assert (
                encoder.engine == "" and rest.network.name == f"{encoder.network.name}, keys and values of its decoder"
            )
            assert (encoder.network.precision == "F16") == (engines == ("gpu",))
            assert {encoder.network.name, rest.network.name} <= set(NETWORKS)


@pytest.mark.parametrize(("chip", "engine"), [("m1pro", "cpu"), ("m2ultra", "gpu"), ("m3pro", "gpu"), ("m5pro", "gpu")])
def test_ggml_used_the_gpu_once_it_could(chip, engine):
    found = [c.workload for c in cases("Whisper") if c.target == chip]
    assert {w.calls[1].engine for w in found if isinstance(w, Programs)} == {engine}


def test_kernels_of_ggml_stand_alone():
    assert {c.engines for c in cases("Whisper") if c.eager} == {("gpu",)}


def test_keys_and_values_have_two_products_a_layer():
    assert macs(Network("Whisper-tiny encoder, keys and values of its decoder", "F16")) == 4 * 2 * 1500 * 384 * 384


# ---------------------------------------------------------------- Stable Diffusion


def test_the_app_ran_what_the_neural_engine_did():
    """Both of the README's tables for iPhones and iPads; Macs ran the package's own pipeline."""
    assert {(c.engines, c.harness) for c in cases("SD")} == {(("ane",), SWIFT), (("gpu",), DEVICE)}


# ---------------------------------------------------------------- Core ML on Macs


def test_what_a_long_call_waits_for_is_the_calibration_tables():
    (table,) = find_tables(["apple/dispatch_overheads"])
    (note,) = (r for r in (DATA / f"{table.name}.csv").read_text().splitlines() if r.startswith("completion side"))
    short, longest = (float(t) * 1e-6 for t in re.findall(r"(\d+)-(\d+) us", note)[0])
    assert pytest.approx(longest - short) == WAKE_S
    assert {c.harness for c in cases("") if c.source == "751K/Apple-Neural-Engine-Microarchitecture-Study-M6"} == {
        CORE_ML_MAC
    }
