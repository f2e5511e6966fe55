"""From what was measured to the text of a target file with one engine, a CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tilewright.compiler.ir import DTYPE_BITS

from .convolutions import DIRECT_FROM
from .core import last_cache
from .framework import GRAIN
from .record import Kernel, Measured, Probe

TOOL = "measured by tilewright targets measure-host"
ASSUMED = "assumed: "  # how a figure that no benchmark gives begins
Line = tuple[str, float, str, str]  # key, value, unit, how


def describe(measured: Measured) -> str:
    """A complete target file: each source is the machine, the day and the benchmark, or says what is assumed."""
    m = measured
    parts = [
        f"# {m.machine.cpu}, cores used: {m.threads}. Made by tilewright targets measure-host, {m.date}.",
        'name = "host"',
        f"title = {json.dumps(m.machine.cpu)}",
    ]
    for table, lines in _tables(m):
        parts += ["", f"[{table}]", *(['kind = "cpu"'] if table == "cpu" else [])]
        parts += (_line(m, *line) for line in lines)
    return "\n".join(parts) + "\n"


def _line(m: Measured, key: str, value: float, unit: str, how: str) -> str:
    assumed = how.startswith(ASSUMED)
    source = how.removeprefix(ASSUMED) if assumed else f"{TOOL} on {m.machine.cpu}, {m.date}: {how}"
    trust = "assumed" if assumed else "B"
    fields = f'value = {value:.5g}, unit = "{unit}", source = {json.dumps(source)}, confidence = "{trust}"'
    return f"{key} = {{ {fields} }}"


def _whole(key: str, value: int, unit: str, how: str) -> Line:
    return key, float(value), unit, how


def _tables(m: Measured) -> Iterator[tuple[str, list[Line]]]:
    yield from _memory(m)
    cores = m.threads
    yield (
        "cpu",
        [
            _whole("cores", cores, "cores", "the threads that PyTorch was given"),
            ("clock", m["clock"] / 1e9, "GHz", m.probes["clock"].how),
            ("launch", 0.0, "us", f"{ASSUMED}a program is its ops: nothing is launched"),
            ("task", m["task"] * 1e6, "us", m.probes["task"].how),
            (
                "start",
                m["latency_dram"] * m["clock"],
                "cycles",
                f"a block's first line: {m.probes['latency_dram'].how}",
            ),
        ],
    )
    _, inner = max(m.machine.caches.items())
    rate = _cluster(m)
    how = f"all cores from the last cache of {inner >> 20} MiB"
    copies: list[Line] = [(key, rate / 1e9, "GB/s", how) for key in ("load", "weights", "store")]
    copies += [
        ("setup", m["latency_cache"] * 1e9, "ns", f"a stream's first line: {m.probes['latency_cache'].how}"),
        _whole("line", m.machine.line_bytes, "B", "the operating system"),
    ]
    yield "cpu.dma", copies
    yield from _simd(m)
    yield from _caches(m)
    yield from _library(m)
    yield (
        "cpu.threads",
        [
            _whole("grain", GRAIN, "elements", f"{ASSUMED}PyTorch, at::internal::GRAIN_SIZE"),
            ("barrier", m["barrier"] * 1e6, "us", m.probes["barrier"].how),
        ],
    )


def _cluster(m: Measured) -> float:
    """Bytes a second of all cores from the last cache."""
    return m.threads * m[f"read_l{max(m.machine.caches)}"]


def _memory(m: Measured) -> Iterator[tuple[str, list[Line]]]:
    cache_s, dram_s = m["latency_cache"], max(m["latency_dram"], m["latency_cache"] + 1e-9)
    rate, last = _cluster(m), f"L{max(m.machine.caches)}"
    yield (
        "memory",
        [
            ("bandwidth", max(m["dram_1"], m["dram_all"]) / 1e9, "GB/s", m.probes["dram_all"].how),
            ("efficiency", 1.0, "fraction", f"{ASSUMED}the bandwidth is what streams reached"),
            ("latency", (dram_s - cache_s) * 1e9, "ns", f"{m.probes['latency_dram'].how}, less a hit in the {last}"),
            _whole("line", m.machine.line_bytes, "B", "the operating system"),
        ],
    )
    yield (
        "memory.slc",
        [
            ("size", last_cache(m.machine) / 1024, "KiB", f"the {last}, by the operating system"),
            ("bandwidth", rate / 1e9, "GB/s", f"{m.probes[f'read_{last.lower()}'].how} on each core"),
            ("latency", cache_s * 1e9, "ns", m.probes["latency_cache"].how),
        ],
    )
    yield "memory.fabric", [("latency", 0.0, "ns", f"{ASSUMED}part of the latencies of the cache and of memory")]
    yield "memory.fabric.ports", [("cpu", rate / 1e9, "GB/s", "all cores from the last cache")]


def _peak(m: Measured) -> Probe:
    """Multiply-adds a second of one core in f32: the most that anything reached."""
    found = [m.probes["fma_f32"], *(k.mac_rate for k in m.kernels.values())]
    return max(found, key=lambda probe: probe.value)


def _lanes(m: Measured) -> float:
    return m.machine.register_bytes * 8 / DTYPE_BITS["f32"]


def _simd(m: Measured) -> Iterator[tuple[str, list[Line]]]:
    peak, lanes, hz = _peak(m), _lanes(m), m["clock"]
    pipes = peak.value / hz / lanes
    yield (
        "cpu.simd",
        [
            _whole("width", m.machine.register_bytes, "B", "the instruction sets that the operating system lists"),
            ("pipes", pipes, "pipes", f"multiply-adds in f32 of {peak.how}"),
            ("scalar", 1.0, "pipes", f"{ASSUMED}one 64-bit product a cycle"),
        ],
    )
    one = f"{ASSUMED}one operation of a pipe, as a multiply-add"
    costs: list[Line] = [(key, 1.0, "cycles", one) for key in ("move", "add", "mul", "fma", "compare")]

    def operations(probe: Probe) -> float:
        return probe.value * hz * lanes * pipes

    for key, name in (("permute", "transpose"), ("divide", "div"), ("sqrt", "sqrt"), ("exp", "exp")):
        element, _ = m.functions[name]
        costs.append((key, max(operations(element), 1.0), "cycles", f"{name} of {element.how}"))
    yield "cpu.simd.cost", costs
    for name, (element, reduction) in m.functions.items():
        lines: list[Line] = [
            ("element", operations(element), "cycles", element.how),
            ("reduction", reduction.value * hz * pipes, "cycles", reduction.how),
        ]
        if name in m.exposed:
            lines.append(("exposed", m.exposed[name].value, "fraction", m.exposed[name].how))
        if name in m.long:
            ahead, rest = m.long[name]
            lines += [_whole("ahead", round(ahead.value), "B", ahead.how), ("rest", rest.value, "fraction", rest.how)]
        yield f"cpu.simd.functions.{name}", lines


def _caches(m: Measured) -> Iterator[tuple[str, list[Line]]]:
    sizes, hz = m.machine.caches, m["clock"]
    lines: list[Line] = [
        ("l1", sizes[1] / 1024, "KiB", "the operating system"),
        ("l1_read", m["read_l1"] / hz, "B/cycle", m.probes["read_l1"].how),
        ("l1_write", m["write_l1"] / hz, "B/cycle", m.probes["write_l1"].how),
        ("l2", sizes[2] / 1024, "KiB", "the operating system"),
        ("l2_bandwidth", m["read_l2"] / hz, "B/cycle", m.probes["read_l2"].how),
    ]
    if 3 in sizes:
        lines += [
            ("l3", sizes[3] / 1024, "KiB", "the operating system"),
            ("l3_bandwidth", m["read_l3"] / hz, "B/cycle", m.probes["read_l3"].how),
        ]
    misses = m["dram_1"] * max(m["latency_dram"], m["latency_cache"] + 1e-9) / m.machine.line_bytes
    lines.append(("misses", misses, "lines", f"{m.probes['dram_1'].how}, times the latency"))
    yield "cpu.cache", lines


def _library(m: Measured) -> Iterator[tuple[str, list[Line]]]:
    peak, hz = _peak(m).value, m["clock"]
    below = f"{ASSUMED}PyTorch, use_mkldnn in aten/src/ATen/native/Convolution.cpp"
    yield (
        "cpu.library",
        [
            _whole("product_below", DIRECT_FROM, "elements", below),
            ("vector", m["vector"] / 1e9, "GB/s", m.probes["vector"].how),
            ("vector_serial", m["vector_serial"], "fraction", m.probes["vector_serial"].how),
        ],
    )
    for name, k in m.kernels.items():
        yield f"cpu.library.{name}", _kernel(k, name, peak, hz)
        if k.together is not None:
            yield f"cpu.library.{name}.together", _kernel(k.together, name, peak, hz)


def _kernel(k: Kernel, name: str, peak: float, hz: float) -> list[Line]:
    # where channels share nothing, passing over them is what takes the time
    sustained = 1.0 if name == "grouped" else min(k.mac_rate.value / peak, 1.0)
    lines: list[Line] = [
        ("sustained", sustained, "fraction", k.mac_rate.how),
        ("pack", k.pack.value * hz, "cycles", k.pack.how),
        ("stream", k.stream.value * hz, "cycles", k.stream.how),
        ("start", k.start.value * 1e6, "us", k.start.how),
    ]
    if k.ragged is not None:
        lines.append(("ragged", k.ragged.value * hz, "cycles", k.ragged.how))
    return lines
