"""The machine that this runs on: PyTorch ops and networks, measured when they are asked for."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .case import Case
from .table import VALIDATE, Table
from .workloads import Conv, Elementwise, Gemm, LayerNorm, Network, Softmax, Workload

if TYPE_CHECKING:
    from tilewright.targets.host.timing import Time

SOURCE = "measured with PyTorch on this machine in the same run, f32, the least of many calls on data in memory"
THREADS = (1, 2)
RESTLESS = 0.25  # more scatter than that is told
DISTURBED = 1.5  # times as long as on one thread: a second one was not there

Labelled = tuple[str, Workload]


@dataclass(frozen=True)
class HostTable(Table):
    """A table of workloads rather than of a file. `target_file` describes this machine; by default it is measured."""

    workloads: tuple[Labelled, ...] = ()
    target_file: Path | None = None
    budget_s: float = 0.3  # of wall time, a case; the double on several threads
    threads: Sequence[int] = THREADS

    def find_cases(self, data: Path | None = None) -> list[Case] | None:
        """Measures every workload on each number of threads that the machine has cores for. None where tables from
        elsewhere are asked for."""
        if data is not None:
            return None
        return list(self._measure(self.target_file or measured_file()))

    def _measure(self, target: Path) -> Iterator[Case]:
        import torch
        from tilewright.targets import load_target
        from tilewright.targets.host.core import beyond_caches
        from tilewright.targets.host.machine import read_machine
        from tilewright.targets.host.nearness import nearness
        from tilewright.targets.host.timing import least, undisturbed

        from .host_ops import calls

        machine = read_machine()
        hit_s = load_target(str(target)).memory.slc_latency_ps * 1e-12
        for threads in self.threads:
            nearness(threads).seek(hit_s)
        beyond = beyond_caches(machine)
        before = torch.get_num_threads()
        row = 0
        try:
            with torch.inference_mode():
                for label, workload in self.workloads:
                    torch.set_num_threads(1)
                    todo = calls(workload, beyond)
                    alone = least(todo, 1, self.budget_s, rounds=3)
                    for threads in [n for n in self.threads if n <= machine.cores]:
                        torch.set_num_threads(threads)
                        took = alone if threads == 1 else undisturbed(todo, threads, alone, 2 * self.budget_s, tries=4)
                        slower = took.seconds / alone.seconds
                        row += 1
                        part = "1 thread" if threads == 1 else f"{threads} threads"
                        yield Case(
                            "host",
                            workload,
                            took.seconds,
                            row=str(row),
                            part=part,
                            settings=(("cpu.cores", str(threads)),),
                            fitted=_disturbed(took, slower),
                            label=f"{label}, {part}{_scatter(took.spread)}",
                            target_file=str(target),
                            eager=True,
                        )
        finally:
            torch.set_num_threads(before)


def _disturbed(took: Time, slower: float) -> str:
    """Why a time does not count: it took so many times as long as on one thread, or cores that the target file has near
    each other were not."""
    if slower > DISTURBED:
        return f"others had the cores: {slower:.1f} times one thread"
    return "the cores lay apart, as the machine below moves them" if took.apart else ""


def _scatter(spread: float) -> str:
    """How far half of the samples lie above the time that is given, where that is much."""
    return f" (scatter {100 * spread:.0f} %)" if spread > RESTLESS else ""


@cache
def measured_file() -> Path:
    """A target file of this machine, measured once a process and removed at its end."""
    from tilewright.targets.host import describe, measure

    folder = Path(tempfile.mkdtemp(prefix="tilewright-host-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "host.toml"
    file.write_text(describe(measure()))
    return file


def _gemms() -> Iterator[Labelled]:
    for m, k, n in ((128, 128, 128), (256, 256, 256), (512, 512, 512), (768, 64, 768), (128, 512, 2048)):
        yield f"{m}x{k}x{n}", Gemm(m, k, n, "f32", weight=False)
    for m, k, n in ((1, 2048, 2048), (32, 1024, 1024), (64, 768, 768), (197, 384, 1536)):
        yield f"linear {m}x{k}x{n}", Gemm(m, k, n, "f32", transposed=True)
    yield "12 of 128x64x128", Gemm(128, 64, 128, "f32", batch=12, weight=False)


def _convs() -> Iterator[Labelled]:
    for inner, outer, side, kernel, stride in (
        (64, 64, 56, 3, 1), (128, 128, 28, 3, 1), (256, 256, 14, 3, 1), (512, 512, 7, 3, 1), (128, 128, 56, 3, 2),
        (64, 256, 56, 1, 1), (512, 128, 28, 1, 1), (3, 64, 112, 7, 2),
    ):  # fmt: skip
        label = f"{inner} to {outer} channels, {kernel}x{kernel}, {side} pixels, stride {stride}"
        yield label, Conv(1, inner, outer, side, side, kernel, stride, kernel // 2, "f32")


def _elementwise() -> Iterator[Labelled]:
    for rows in (128, 1024, 3072):
        for op, operands in (("add", 2), ("mul", 2), ("relu", 1), ("gelu", 1), ("sigmoid", 1), ("exp", 1)):
            yield f"{op} {rows}x1024", Elementwise(op, (rows, 1024), "f32", operands)


def _table(family: str, title: str, workloads: Iterator[Labelled], budget_s: float = 0.3) -> HostTable:
    return HostTable(
        f"host/{family}", title, SOURCE, VALIDATE, {}, lambda row: (), on_request=True,
        workloads=tuple(workloads), budget_s=budget_s,
    )  # fmt: skip


_ROWS = ((512, 128), (2364, 197), (256, 1000), (1024, 1024), (128, 4096))

TABLES: tuple[HostTable, ...] = (
    _table("gemm", "this machine, matrix products", _gemms()),
    _table("conv2d", "this machine, convolutions", _convs()),
    _table("elementwise", "this machine, elementwise ops", _elementwise()),
    _table("softmax", "this machine, softmax", ((f"{r}x{c}", Softmax(r, c, "f32")) for r, c in _ROWS)),
    _table("layernorm", "this machine, layer norm", ((f"{r}x{c}", LayerNorm(r, c, "f32")) for r, c in _ROWS)),
    _table(
        "network",
        "this machine, whole networks",
        ((name, Network(name, "fp32")) for name in (
            "MobileNetV2, 224 pixels", "ResNet-50, 224 pixels", "ViT of 4 layers of 384, 112 pixels",
        )),
        budget_s=1.5,
    ),
)  # fmt: skip

__all__ = ["TABLES", "HostTable", "measured_file"]
