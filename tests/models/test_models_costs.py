"""What every example costs: fidelities in order, MACs as FX counts them, more bandwidth never slower."""

import functools
import math

import pytest
import torch
from tilewright.compiler.frontend.examples import EXAMPLES
from tilewright.compiler.frontend.sources import load
from tilewright.compiler.pipeline import compile_module, copy_module
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate

aten = torch.ops.aten


@functools.lru_cache(maxsize=1)
def loaded(name: str):
    return load(name, weights=False)


def soc(name: str, target, engines=()):
    module = copy_module(loaded(name).module)
    compile_module(module, target, engines, "soc")
    return module


def fx_macs(program) -> int:
    """Multiply-accumulates from the shapes that export recorded, op by op: no code shared with the compiler."""
    total = 0
    for node in program.graph.nodes:
        if node.op != "call_function" or not hasattr(node.target, "overloadpacket"):
            continue
        shape = [tuple(a.meta["val"].shape) if isinstance(a, torch.fx.Node) else None for a in node.args]
        out = node.meta["val"].shape if isinstance(node.meta["val"], torch.Tensor) else ()
        packet = node.target.overloadpacket
        if packet in (aten.conv2d, aten.convolution, aten.conv1d, aten.linear):
            total += math.prod(out) * math.prod(shape[1][1:])
        elif packet in (aten.matmul, aten.mm, aten.bmm):
            total += math.prod(out) * shape[0][-1]
        elif packet is aten.addmm:
            total += math.prod(out) * shape[1][-1]
        elif packet is aten.scaled_dot_product_attention:
            q, k, v = shape[:3]
            total += math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])
    return total


@pytest.mark.parametrize("engines", [(), ("ane",), ("gpu",), ("cpu",)], ids=["all", "ane", "gpu", "cpu"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_fidelities(name, engines):
    target = load_target("m4")
    module = soc(name, target, engines)
    cycle = simulate(module, target, "cycle")
    analytic = simulate(module, target, "analytic")
    roofline = simulate(module, target, "roofline")
    for floor, task in zip(roofline.tasks, cycle.tasks, strict=True):
        assert floor.end_ps - floor.start_ps <= task.end_ps - task.start_ps, (task.label, task.location)
    assert roofline.latency_ps <= cycle.latency_ps
    assert abs(analytic.latency_ps / cycle.latency_ps - 1) < 0.25
    assert cycle.macs == fx_macs(loaded(name).program)


@pytest.mark.parametrize("target", ["m1", "m4"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_more_bandwidth_is_never_slower(name, target):
    """The same program: compiled once, for the slower memory."""
    hardware = load_target(target)
    module = soc(name, hardware)
    latency = [
        simulate(
            module, hardware.override("memory.bandwidth", str(int(hardware.memory.dram_bytes_per_s * f)))
        ).latency_ps
        for f in (0.5, 1, 2, 4)
    ]
    assert latency == sorted(latency, reverse=True)
