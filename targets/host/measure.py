"""Runs all micro-benchmarks, in a minute or two."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .core import beyond_caches, fastest, probe_core, probe_latency, probe_streams
from .framework import Around, probe_barrier, probe_calls, probe_exposed, probe_functions, probe_kernels, probe_vector
from .machine import HostError, Machine, read_machine
from .nearness import nearness
from .others import others
from .record import Measured


@dataclass(frozen=True, slots=True)
class Options:
    """`threads`: the most that PyTorch may use; by default one a core."""

    threads: int | None = None


def measure(options: Options | None = None, observer: Callable[[str], object] = lambda doing: None) -> Measured:
    """Raises HostError where the machine does not say what it has, or has fewer cores than threads are asked for."""
    machine = read_machine()
    threads = _threads(machine, (options or Options()).threads)
    before = torch.get_num_threads()
    try:
        with torch.inference_mode():
            torch.set_num_threads(1)
            observer("the core and its caches")
            probes = probe_core(machine)
            observer("memory's latency")
            probes |= probe_latency(machine)
            nearness(threads).seek(probes["latency_cache"].value)
            observer("memory's bandwidth")
            streams = probe_streams(machine, threads)
            observer("PyTorch's calls and functions")
            among = others(machine, 1)
            probes |= probe_calls(among)
            call_s = probes["call"].value
            functions = probe_functions(call_s)
            beyond = beyond_caches(machine)
            observer("memory's bandwidth, again")
            probes |= fastest(streams, probe_streams(machine, threads))
            exposed, long = probe_exposed(call_s, beyond, probes["dram_1"].value)
            observer("threads")
            probes |= probe_barrier(threads, call_s, beyond)
            probes |= probe_vector(threads, call_s, beyond)
            observer("PyTorch's products")
            draws, barrier_s = (probes["dram_1"].value, probes["dram_all"].value), probes["barrier"].value
            lanes = machine.register_bytes // 4
            kernels = probe_kernels(Around(call_s, *draws, beyond, threads, barrier_s, lanes, others(machine, threads)))
    finally:
        torch.set_num_threads(before)
    apart = nearness(threads).patience_s <= 0
    today = datetime.date.today().isoformat()
    return Measured(machine, today, threads, probes, functions, kernels, exposed, long, apart)


def _threads(machine: Machine, asked: int | None) -> int:
    if asked is not None and not 1 <= asked <= machine.cores:
        raise HostError(f"{asked} threads were asked for; this process may use 1 to {machine.cores} cores")
    return asked or machine.cores
