"""Where ops go and what they are thought to cost: held to what the simulator says."""

from __future__ import annotations

import pytest
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Block, Func, Module, Return, TensorType, Value
from tilewright.compiler.pipeline import compile_module, copy_module, run_passes
from tilewright.passes import PassContext, default_pipeline
from tilewright.passes.loop_bodies import loops_of
from tilewright.passes.planner import Planner, storage_view
from tilewright.passes.tiling import Tiler
from tilewright.passes.traffic import OnChip, Rates, Traffic
from tilewright.targets import Target, load_target
from tilewright.targets.simulator import Timing, simulate

GELU, ADD = graph.ELEMENTWISE["gelu"], graph.ELEMENTWISE["add"]
MOST = 1.02  # times the best engine alone


class Net:
    """A module under construction."""

    def __init__(self, *shape: int):
        self.block = Block([TensorType(shape, "f16")], ["x"])
        self.x: Value = self.block.args[0]
        self.weights = 0

    def add(self, op: graph.GraphOp) -> Value:
        return self.block.append(op).results[0]

    def weight(self, *shape: int) -> Value:
        self.weights += 1
        return self.add(graph.Parameter(key=f"w{self.weights}", result_types=[TensorType(shape, "f16")]))

    def linear(self, x: Value, columns: int) -> Value:
        return self.add(graph.Matmul(x, self.weight(columns, x.type.shape[-1]), transpose_b=True))

    def conv(self, x: Value, channels: int) -> Value:
        w = self.weight(channels, x.type.shape[1], 3, 3)
        return self.add(graph.Conv(x, w, strides=(1, 1), padding=(1, 1, 1, 1)))

    def module(self, *results: Value) -> Module:
        self.block.append(Return(*results))
        module = Module()
        module.body.append(Func(sym_name="main", regions=[self.block]))
        return module


def mlp(rows: int, width: int) -> Module:
    net = Net(rows, width)
    return net.module(net.linear(net.add(GELU(net.linear(net.x, 4 * width))), width))


def decoder(context: int, layers: int = 2, width: int = 2048) -> Module:
    """One token that attends to a context of eight heads, which each layer is given as a weight."""
    net = Net(1, width)
    x = net.x
    for _ in range(layers):
        q = net.add(graph.Reshape(net.linear(x, width), to=(1, 8, 1, width // 8)))
        k, v = (net.weight(1, 8, context, width // 8) for _ in range(2))
        y = net.add(graph.Reshape(net.add(graph.Attention(q, k, v, scale=0.1)), to=(1, width)))
        x = net.add(ADD(x, net.linear(y, width)))
        x = net.add(ADD(x, net.linear(net.add(GELU(net.linear(x, 4 * width))), width)))
    return net.module(x)


def convolutions(channels: int, side: int) -> Module:
    net = Net(1, channels, side, side)
    return net.module(net.conv(net.add(GELU(net.conv(net.conv(net.x, channels), channels))), channels))


MODELS = {
    "a row": lambda: mlp(1, 1024),
    "64 rows": lambda: mlp(64, 1024),
    "512 rows": lambda: mlp(512, 512),
    "decoder": lambda: decoder(512),
    "convolutions": lambda: convolutions(64, 28),
}


def cost(module: Module, target: Target, engines: tuple[str, ...] = ()) -> Timing:
    copy = copy_module(module)
    compile_module(copy, target, engines)
    return simulate(copy, target)


@pytest.mark.parametrize("chip", ["m1", "m4", "a16", "m5pro", "m1max"])
@pytest.mark.parametrize("name", MODELS)
def test_all_engines_are_no_slower_than_the_best_of_them(name: str, chip: str) -> None:
    target, module = load_target(chip), MODELS[name]()
    alone = {e: cost(module, target, (e,)).latency_ps for e in target.engines}
    timing = cost(module, target)
    assert timing.latency_ps <= MOST * min(alone.values()), f"{alone}, {[t.engine for t in timing.tasks]}"


@pytest.mark.parametrize("chip", ["m1", "m4", "m5pro"])
@pytest.mark.parametrize("engine", ["ane", "gpu", "cpu"])
@pytest.mark.parametrize(("name", "most"), [("a row", 0.06), ("512 rows", 0.15), ("decoder", 0.06)])
def test_an_estimate_is_what_the_simulator_charges(name: str, most: float, engine: str, chip: str) -> None:
    """Of whole programs on one engine, with launches apart."""
    target, module = load_target(chip), MODELS[name]()
    context = PassContext(target=target, engines=(engine,))
    passes = default_pipeline("soc")
    at = [p.name for p in passes].index("place")
    run_passes(module, passes[:at], context)
    planner = Planner(target, module)
    specs = [s for op in module.main.body if isinstance(op, graph.GraphOp) for s in loops_of(op)]
    estimate = planner.cost_ps(specs, engine)
    run_passes(module, passes[at:], context)
    timing = simulate(module, target)
    launched = sum(t.breakdown.get("launch", 0) for t in timing.tasks)
    assert estimate == pytest.approx(timing.latency_ps - launched, rel=most)


def test_filling_the_pipeline_takes_nothing_off() -> None:
    """A product of one row on a GPU is bound by memory: neither its units' time nor what fills them makes up for it."""
    target = load_target("m1")
    net = Net(1, 8192)
    module = net.module(net.linear(net.x, 8192))
    (op,) = (op for op in module.main.body if isinstance(op, graph.Matmul))
    (spec,) = loops_of(op)
    planner = Planner(target, module)
    planner.plan(spec, "gpu")
    engine, views = target.engines["gpu"], [storage_view(i.value) for i in spec.inputs]
    rates, on_chip = planner.rates["gpu"], planner.on_chip["gpu"]
    tiler = Tiler(spec, engine, 2, Traffic(spec, engine, target.memory, rates, on_chip, views))
    for columns in (64, 512, 8192):
        for depth in (64, 1024):
            tiles, order = {"m": 1, "n": columns, "k": depth}, ("m", "n", "k")
            asked = tiler.traffic.at(tiles, order)
            assert asked.shared >= 8192 * 8192 * 2 * on_chip.fetched / target.memory.dram_bytes_per_s * 1e12
            assert tiler.cost_ps(tiles, order) >= asked.shared > sum(asked.units.values()) / 2


def test_rates_are_those_of_the_memory() -> None:
    target = load_target("m4")
    rates = Rates.of(target, target.engines["ane"])
    assert (rates.port, rates.cache) == (170_000_000_000, 215_300_000_000)
    assert 0.9 * rates.peak < rates.read <= rates.peak == 119_500_000_000
    assert OnChip(frozenset(), 1.0).fetched == 1.0


def test_attention_stays_whole_where_another_engine_is_faster() -> None:
    """M1 Max's GPU has six times the bandwidth of its Neural Engine, which runs attention in parts."""
    for chip, engine, whole in (("m1max", "gpu", True), ("m1max", "ane", False), ("m1max", "", True)):
        context = PassContext(target=load_target(chip), engines=(engine,) if engine else ())
        module = decoder(4096)
        run_passes(module, default_pipeline("graph"), context)
        kinds = {type(m) for op in module.main.body for m in (op.body if isinstance(op, graph.Fuse) else [op])}
        assert (graph.Attention in kinds) == whole
    missed = [e for e in context.log if e.outcome == "missed" and e.rule == "expand-attention"]
    assert len(missed) == 2 and "faster with it whole" in missed[0].reason
