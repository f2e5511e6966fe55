"""How fast programs are imported and bound, against a bare walk of the same FX nodes; and a long one's way to its cost.

pytest tests/bench/bench_import.py -m bench -s
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tilewright.compiler.frontend.export import convert, export
from tilewright.compiler.frontend.importer import import_program
from tilewright.compiler.frontend.specialise import specialise
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate
from torch.export import Dim, ExportedProgram

NODES_PER_S = 3_000
MAMBA_S = 30.0
OWN_S = 12.0  # of them, all but the export


class Mamba(torch.nn.Module):
    """transformers' slow path: the scan over the sequence is unrolled, some ten nodes a position and layer."""

    def __init__(self, layers: int):
        import transformers

        super().__init__()
        config = transformers.MambaConfig(hidden_size=256, num_hidden_layers=layers, vocab_size=1000, use_cache=False)
        self.model = transformers.MambaForCausalLM(config)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(ids, use_cache=False).logits


def mamba(layers: int) -> ExportedProgram:
    return export(*convert(Mamba(layers), (torch.zeros(1, 192, dtype=torch.long),), {}, "f16"))


def best(run: Callable[[], Any], times: int = 3) -> float:
    """The least CPU time of a few runs, in seconds."""
    seconds = []
    for _ in range(times):
        gc.collect()
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def bare_walk(program: ExportedProgram) -> int:
    """Looks at what an importer cannot do without: each node's arguments, type and place."""
    made = 0
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            made += len((tuple(value.shape), value.dtype, node.all_input_nodes, node.meta.get("stack_trace")))
    return made


@pytest.mark.bench
def test_bench_import(capsys: pytest.CaptureFixture[str]) -> None:
    """Nodes a second, and that they do not depend on how many there are."""
    small, large = mamba(1), mamba(4)
    counts = [len(p.graph.nodes) for p in (small, large)]
    rates = [n / best(lambda p=p: import_program(p)) for n, p in zip(counts, (small, large), strict=True)]
    floor = counts[1] / best(lambda: bare_walk(large))
    with capsys.disabled():
        print(f"\nimport: floor {floor:,.0f} nodes/s (a bare walk of the nodes)")
        for n, rate in zip(counts, rates, strict=True):
            print(f"figure {rate:,.0f} nodes/s over {n:,} nodes, ratio {rate / floor:.2f}")
    assert min(rates) >= NODES_PER_S
    assert rates[1] > 0.6 * rates[0], "four times the nodes take four times as long"


class Stack(torch.nn.Module):
    def __init__(self, layers: int):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.TransformerEncoderLayer(64, 4, 128) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.bench
def test_bench_bind(capsys: pytest.CaptureFixture[str]) -> None:
    """Another binding of one export, against another export."""
    model, args, kwargs = convert(Stack(24), (torch.zeros(16, 3, 64),), {}, "f32")
    shapes = ({0: Dim("seq", min=2, max=4096), 1: Dim("batch", max=64)},)
    program = export(model, args, kwargs, shapes)
    floor = best(lambda: export(model, args, kwargs, shapes), 1)
    figure = best(lambda: import_program(specialise(program, {"seq": 128, "batch": 2})))
    nodes = len(program.graph.nodes)
    with capsys.disabled():
        print(f"\nbinding {nodes:,} nodes: floor {floor:.2f} s (exporting them)")
        print(f"figure {figure:.2f} s with the import, {nodes / figure:,.0f} nodes/s, ratio {figure / floor:.3f}")
    assert figure < 0.2 * floor


@pytest.mark.bench
def test_bench_mamba(capsys: pytest.CaptureFixture[str]) -> None:
    """A program of some 8,000 nodes, from the model to its cost; torch's export is the floor."""
    seconds: dict[str, float] = {}

    def phase(name: str, run: Callable[[], Any]) -> Any:
        start = time.process_time()
        made = run()
        seconds[name] = time.process_time() - start
        return made

    program = phase("export", lambda: mamba(4))
    module = phase("import", lambda: import_program(program))
    target = load_target("m4")
    phase("passes", lambda: compile_module(module, target, (), "soc"))
    phase("simulate", lambda: simulate(module, target))
    total = sum(seconds.values())
    with capsys.disabled():
        print(f"\n4-layer Mamba, {len(program.graph.nodes):,} nodes: floor {seconds['export']:.1f} s (torch.export)")
        print(f"figure {total:.1f} s ({', '.join(f'{k} {s:.1f}' for k, s in seconds.items())})", end="")
        print(f", ratio {total / seconds['export']:.2f}")
    assert total < MAMBA_S and total - seconds["export"] < OWN_S
