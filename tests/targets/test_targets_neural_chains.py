"""Chains of convolutions on the Neural Engine, as measured: rows of ane_microbench, which set no constant as chains."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from tilewright.compiler.ir import Module, parse
from tilewright.compiler.pipeline import compile_module
from tilewright.compiler.validate.precision import find_precision
from tilewright.compiler.validate.storage import store
from tilewright.targets import Target, load_target
from tilewright.targets.simulator import simulate

M6_SOURCE = 'source = "ane_microbench, ane_generations: one engine of M6", confidence = "B"'
M6 = f"""
name = "m6"
title = "One Neural Engine of M6"
inherits = "m4"
[memory]
bandwidth = {{ value = 170.5, unit = "GB/s", {M6_SOURCE} }}
[ane]
clock = {{ value = 2.58, unit = "GHz", {M6_SOURCE} }}
[ane.dma]
weights = {{ value = 152, unit = "GB/s", {M6_SOURCE} }}
[ane.array]
winograd = {{ value = 1.5, unit = "times", {M6_SOURCE} }}
"""
# channels, height x width, kernel; us a layer
M6_LAYERS = [
    (512, (1, 128), (1, 1), 3.26),
    (512, (16, 16), (3, 3), 39.0),
    (256, (8, 16), (3, 3), 9.9),
    (256, (8, 16), (5, 5), 24.8),
    (256, (8, 16), (7, 7), 42.3),
    (512, (8, 32), (3, 3), 51.3),
    (512, (8, 32), (9, 1), 86.9),
    (512, (8, 32), (1, 9), 94.8),
]
# C512, 32 x 32: layers, tera-operations a second with all that a call costs
M4_CHAINS = {
    "fp16": [(4, 9.8), (8, 12.3), (16, 11.7), (32, 16.1)],
    "w8a8": [(4, 12.4), (8, 18.6), (16, 22.4), (32, 27.4)],
}
OPERATIONS = 2 * 512 * 512 * 32 * 32


def chain(layers: int, channels: int, size: tuple[int, int], kernel: tuple[int, int]) -> Module:
    h, w = size
    x, k = f"tensor<1x{channels}x{h}x{w}xf16>", f"tensor<{channels}x{channels}x{kernel[0]}x{kernel[1]}xf16>"
    top, left = kernel[0] // 2, kernel[1] // 2
    around = f"strides = [1, 1], padding = [{top}, {top}, {left}, {left}], dilations = [1, 1], groups = 1"
    lines = [f'  %w{i} = graph.parameter {{key = "w{i}"}} : {k}' for i in range(layers)]
    lines += [f"  %x{i + 1} = graph.conv %x{i}, %w{i} {{{around}}} : {x}" for i in range(layers)]
    return parse(f"func.func @main(%x0: {x}) -> {x} {{\n" + "\n".join(lines) + f"\n  func.return %x{layers}\n}}\n")


def us(module: Module, target: Target) -> float:
    compile_module(module, target, ("ane",))
    return simulate(module, target).latency_ps * 1e-6


@pytest.fixture(scope="module")
def m6(tmp_path_factory: pytest.TempPathFactory) -> Target:
    file: Path = tmp_path_factory.mktemp("targets") / "m6.toml"
    file.write_text(M6)
    return load_target(file)


def test_a_layer_of_a_chain_takes_what_was_measured(m6: Target) -> None:
    """What a call costs falls out of the difference. C512 on one row of 128 pixels is the one that is far off: its
    weights take as long as its products, and the model hides only a part of them."""
    errors = []
    for channels, size, kernel, measured in M6_LAYERS:
        few, many = (us(chain(n, channels, size, kernel), m6) for n in (3, 7))
        errors.append((many - few) / 4 / measured - 1)
    found = dict(zip(M6_LAYERS, errors, strict=True))
    assert sum(map(abs, errors)) / len(errors) <= 0.15, found
    assert median(map(abs, errors)) <= 0.10, found


@pytest.mark.parametrize("precision", list(M4_CHAINS))
def test_whole_calls_take_what_was_measured(precision: str) -> None:
    """Chains of 1x1 on M4, of 0.2 to 1 ms: 8-bit operands go through the array at twice the rate."""
    target, errors = load_target("m4"), []
    for layers, rate in M4_CHAINS[precision]:
        module = chain(layers, 512, (32, 32), (1, 1))
        form = find_precision(precision).weights
        if form is not None:
            store(module, form)
        errors.append(us(module, target) / (layers * OPERATIONS / rate * 1e-6) - 1)
    assert sum(map(abs, errors)) / len(errors) <= 0.10, errors
