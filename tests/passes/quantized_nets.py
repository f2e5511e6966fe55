"""Quantised programs for the tests of passes: built, lowered, and checked at every level."""

from fractions import Fraction
from functools import cache

import numpy as np
from hypothesis import strategies as st
from tilewright.compiler.dialects import graph
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.interpret.races import check_races
from tilewright.compiler.ir import Block, Builder, Func, Module, Return, TensorType, int_range, verify
from tilewright.passes import PassContext, default_pipeline
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate

M4 = load_target("m4")
NUMPY = {"f16": "f2", "f32": "f4", "i8": "i1", "i4": "i1", "i32": "i4", "i64": "i8"}
SMALL = {"ane.array.weight_buffer": "128", "ane.scratch.size": "8KiB", "gpu.threadgroup_memory": "512",
         "cpu.cache.l2": "8KiB", "ane.array.accumulators": "256", "cpu.cache.l1": "1KiB"}  # fmt: skip


@cache
def small_target():
    """M4 with memories so small that every loop here has several tiles along each dim."""
    target = M4
    for path, value in SMALL.items():
        target = target.override(path, value)
    return target


class Net:
    """A module under construction: `net.input(...)`, `net.weight(...)`, then ops through `net.add`."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.module, self.block = Module(), Block()
        self.module.body.append(Func(sym_name="main", regions=[self.block]))
        self.builder = Builder(self.block)
        self.inputs: list[np.ndarray] = []

    def array(self, shape, dtype, most=None):
        if dtype[0] in "iu":
            low, high = int_range(dtype)
            return self.rng.integers(low, (high if most is None else most) + 1, shape).astype(NUMPY.get(dtype, "u1"))
        return (0.1 + np.abs(self.rng.standard_normal(shape))).astype(NUMPY[dtype])  # scales are positive

    def input(self, shape, dtype="f16"):
        value = self.block.add_arg(TensorType(tuple(shape), dtype), f"x{len(self.inputs)}")
        signed = self.rng.choice([-1, 1], shape).astype(NUMPY[dtype]) if dtype[0] == "f" else 1
        self.inputs.append((self.array(shape, dtype) * signed).astype(NUMPY.get(dtype, "u1")))
        return value

    def weight(self, shape, dtype, most=None):
        key = f"w{len(self.module.parameters)}"
        self.module.parameters[key] = self.array(shape, dtype, most)
        return self.add(graph.Parameter(key=key, result_types=[TensorType(tuple(shape), dtype)]))

    def number(self, value, dtype, rank):
        return self.add(graph.Constant(value=value, result_types=[TensorType((1,) * rank, dtype)]))

    def add(self, op):
        return self.builder.add(op).result

    def compressed(self, shape, block, kind, dtype="f16"):
        """A weight that is expanded: `kind` is its dtype, after `lut.` if it is looked up, or before `+zero`."""
        counts = graph.block_counts(shape, block)
        if kind.startswith("lut"):
            stored = kind.removeprefix("lut.")
            table = self.weight((*counts, int_range(stored)[1] + 1), dtype)
            return self.add(graph.Lookup(self.weight(shape, stored), table, block=block))
        stored, _, zero = kind.partition("+")
        operands = [self.weight(shape, stored), self.weight(counts, dtype)]
        self.module.parameters[operands[1].op.key] /= 1 + int_range(stored)[1]  # weights of about 1
        if zero:
            operands.append(self.weight(counts, "i8", 7))
        return self.add(graph.Dequantize(*operands, block=block, to=dtype))

    def sparse(self, shape, zeros, dtype="f16"):
        """A weight that is made dense; the part `zeros` of it is zero, scattered."""
        x = self.array(shape, dtype)
        x.reshape(-1)[self.rng.permutation(x.size)[: int(x.size * zeros)]] = 0
        key = f"w{len(self.module.parameters)}"
        self.module.parameters[key] = x
        kind = TensorType(tuple(shape), dtype, density=Fraction(x.size - int(x.size * zeros), x.size))
        return self.add(graph.ToDense(self.add(graph.Parameter(key=key, result_types=[kind]))))

    def done(self, *results):
        self.block.append(Return(*results))
        verify(self.module)
        return self


def lower(module, engines, level, target=M4):
    context = PassContext(target, tuple(engines.split(",")))
    for p in default_pipeline(level):
        p.run(module, context)
        verify(module)
    return context


def agree(got, want, tolerance):
    for g, w in zip(got, want, strict=True):
        g, w = g.astype("f8"), w.astype("f8")
        assert g.shape == w.shape
        assert np.linalg.norm(g - w) <= tolerance * max(np.linalg.norm(w), 1e-30)


def check(make, engines, target=M4, races=True, tolerance=2e-6):
    """Every level agrees with the program as written, in f32 and in its own arithmetic; costs obey their bounds."""
    net = make()
    want = {arith: run_graph(net.module, net.inputs, arith=arith) for arith in ("f32", "native")}
    for level, run in (("graph", run_graph), ("tile", run_tile), ("soc", run_soc)):
        module = make().module
        lower(module, engines, level, target)
        agree(run(module, net.inputs, arith="f32"), want["f32"], tolerance)
        agree(run(module, net.inputs, arith="native"), want["native"], 2e-3)
    if races:
        report = check_races(module, net.inputs, orders=1)
        assert report, str(report)
    timings = {f: simulate(module, target, f) for f in ("roofline", "analytic", "cycle")}
    assert timings["roofline"].latency_ps <= timings["cycle"].latency_ps
    assert timings["analytic"].dram_read_bytes == timings["cycle"].dram_read_bytes
    assert len({t.macs for t in timings.values()}) == 1
    return module


engine = st.sampled_from(["ane", "gpu", "cpu"])
size = st.sampled_from([1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 64, 65])
KINDS = ["i4", "ui4+zero", "i8", "ui8+zero", "lut.ui1", "lut.ui2", "lut.ui3", "lut.ui4", "lut.ui6", "lut.ui8"]
