"""A study of your own: when do more Neural Engine cores stop paying, and does more memory bandwidth help?

    python examples/studies/ane_cores_and_bandwidth.py [MODEL]

The same grid from the command line, without the reading of it:

    tilewright explore vit_b16 --target m4 --engines ane --set ane.cores=4,8,16,32 --set memory.bandwidth=60GB/s,120GB/s
"""

import itertools
import sys
from pathlib import Path

from tilewright.compiler.explore import explore, grid, save
from tilewright.compiler.frontend.sources import load
from tilewright.targets import load_target

CORES = ["4", "8", "16", "32"]
BANDWIDTHS = ["60GB/s", "120GB/s"]
WORTH_IT = 1.2  # twice the cores should give at least this speed-up


def main(model: str = "vit_b16") -> None:
    program = load(model, weights=False)
    points = grid({"memory.bandwidth": BANDWIDTHS, "ane.cores": CORES})
    results = explore(program.module, load_target("m4"), points, engines=("ane",))
    save(results, Path("ane_cores_and_bandwidth.parquet"))
    for bandwidth in BANDWIDTHS:
        row = [r for r in results if r.point["memory.bandwidth"] == bandwidth]
        for r in row:
            busy, ms = r.busy.get("ane.mac", 0.0), r.latency_ps / 1e9
            print(f"{bandwidth:>9}  {r.point['ane.cores']:>3} cores  {ms:8.3f} ms  MAC array busy {busy:5.1%}")
        gains = [(b.point["ane.cores"], a.latency_ps / b.latency_ps) for a, b in itertools.pairwise(row)]
        last = next((cores for cores, gain in reversed(gains) if gain >= WORTH_IT), CORES[0])
        print(f"{bandwidth:>9}  cores pay up to {last}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
