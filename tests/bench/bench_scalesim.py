"""ResNet-18 on one 32 x 32 array that holds weights: simulated here, every fold of it, and by SCALE-Sim.

python -m venv VENV && VENV/bin/pip install "numpy<2.3" scalesim==3.0.0
SCALESIM_PYTHON=VENV/bin/python pytest tests/bench/bench_scalesim.py -m bench -s
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tilewright.compiler.dialects import tile
from tilewright.compiler.ir import Module
from tilewright.targets.engines.base import Work
from tilewright.targets.engines.systolic.array import SystolicArray, scalesim_cycles
from tilewright.targets.simulator import Timing, simulate

sys.path.insert(0, str(Path(__file__).parent.parent / "simulator"))

from soc_programs import GB, FakeEngine, FakeTarget, Program, matmul_task

SIDE = 32
MOST_CYCLES = 60_000  # of a layer that SCALE-Sim gets: it needs about 50 us a cycle
Layer = tuple[int, int, int, int]
# (M, N, K) of each convolution as a product, 224 x 224 images (K. He et al., 2015, table 1), and how often it occurs
LAYERS = [
    (112 * 112, 64, 147, 1),
    (56 * 56, 64, 576, 4),
    (28 * 28, 128, 576, 1),
    (28 * 28, 128, 64, 1),
    (28 * 28, 128, 1152, 3),
    (14 * 14, 256, 1152, 1),
    (14 * 14, 256, 128, 1),
    (14 * 14, 256, 2304, 3),
    (7 * 7, 512, 2304, 1),
    (7 * 7, 512, 256, 1),
    (7 * 7, 512, 4608, 3),
    (1, 1000, 512, 1),
]
CONFIG = f"""
[general]
run_name = ws
[architecture_presets]
ArrayHeight : {SIDE}
ArrayWidth : {SIDE}
IfmapSramSzkB : 1024
FilterSramSzkB : 1024
OfmapSramSzkB : 1024
IfmapOffset : 0
FilterOffset : 10000000
OfmapOffset : 20000000
Bandwidth : 64
Dataflow : ws
ReadRequestBuffer : 64
WriteRequestBuffer : 64
[layout]
IfmapCustomLayout : False
FilterCustomLayout : False
IfmapSRAMBankBandwidth : 10
IfmapSRAMBankNum : 10
IfmapSRAMBankPort : 2
FilterSRAMBankBandwidth : 10
FilterSRAMBankNum : 10
FilterSRAMBankPort : 2
[sparsity]
SparsitySupport : false
[run_presets]
InterfaceBandwidth : CALC
UseRamulatorTrace : False
"""
RUN = """
import time
from scalesim.scale_sim import scalesim
start = time.process_time()
run = scalesim(True, False, "ws.cfg", "layers.csv", "layout.csv", True)
run.run_scale(top_path="out")
print("seconds", time.process_time() - start)
"""


@dataclass(frozen=True)
class Array(FakeEngine):
    """One cycle is 1 ns; a command is one fold."""

    load_rate: int = 1000 * GB
    store_rate: int = 1000 * GB

    def exec_ps(self, unit: str, work: Sequence[Work]) -> int:
        array, cycles = SystolicArray(SIDE, SIDE), 1
        for w in work:
            if isinstance(w.op, tile.Matmul):
                cycles = array.cycles(w.output[0], w.output[1], w.inputs[0][1])
        return 1000 * cycles


def network(layers: Sequence[Layer]) -> Module:
    p = Program()
    with p.launch("ane"):
        for m, n, k, times in layers:
            for _ in range(times):
                x, w = p.dram(m, k), p.dram(k, n, role="parameter")
                matmul_task(p, x, w, p.dram(m, n, role="temporary"), (m, SIDE, SIDE))
    return p.module()


def scalesim(folder: Path, python: str, layers: Sequence[Layer]) -> tuple[float, list[int]]:
    """CPU seconds for each layer once, without those of starting, and the cycles of each."""
    names = [f"l{i}" for i in range(len(layers))]
    products = [f"{name}, {m}, {n}, {k}," for name, (m, n, k, _) in zip(names, layers, strict=True)]
    layouts = [f"{name}," + "1," * 20 for name in names]
    (folder / "ws.cfg").write_text(CONFIG)
    (folder / "layers.csv").write_text("\n".join(["Layer, M, N, K,", *products]))
    (folder / "layout.csv").write_text("\n".join(["Layer,", *layouts]))
    done = subprocess.run([python, "-c", RUN], cwd=folder, capture_output=True, text=True, check=True)
    seconds = float(done.stdout.rsplit("seconds", 1)[1])
    (report,) = folder.glob("out/**/COMPUTE_REPORT.csv")
    with report.open() as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    return seconds, [int(float(row["Total Cycles"])) for row in rows]


@pytest.mark.bench
def test_bench_scalesim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = os.environ.get("SCALESIM_PYTHON")
    if python is None:
        pytest.skip("SCALESIM_PYTHON does not name a Python that has scalesim")
    target = FakeTarget({"ane": Array()})
    everything, whole = seconds(network(LAYERS), target)
    once = [(m, n, k, 1) for m, n, k, _ in LAYERS if scalesim_cycles(m, n, k, SIDE, SIDE, "ws") <= MOST_CYCLES]
    cycles = [scalesim_cycles(m, n, k, SIDE, SIDE, "ws") for m, n, k, _ in once]
    figure, timing = seconds(network(once), target)
    floor, reported = scalesim(tmp_path, python, once)
    with capsys.disabled():
        print(f"\n{len(once)} layers: floor {floor:.1f} s (SCALE-Sim), figure {figure * 1e3:.2f} ms")
        print(
            f"{floor / figure:,.0f} times faster; the whole network: {everything * 1e3:.1f} ms, {whole.events:,} events"
        )
    assert reported == cycles
    assert timing.unit_busy_ps["ane.mac"] >= 1000 * sum(cycles)
    assert floor >= 1000 * figure


def seconds(module: Module, target: FakeTarget) -> tuple[float, Timing]:
    """CPU time of a simulation, after the compilation of the walk."""
    simulate(module, target)
    start = time.process_time()
    timing = simulate(module, target)
    return time.process_time() - start, timing
