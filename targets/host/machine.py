"""What the operating system says of this machine: its CPU's name, registers and caches."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class HostError(Exception):
    """What this machine does not say of itself, so that it cannot be described."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`caches`: bytes of the data or unified cache of each level that one core reaches, by level."""

    cpu: str
    cores: int  # that this process may run on
    register_bytes: int
    line_bytes: int
    caches: Mapping[int, int]


def read_machine(cpuinfo: Path = CPUINFO, caches: Path = CACHES) -> Machine:
    """Raises HostError where Linux does not say what the caches are."""
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    fields = dict(re.findall(r"^([^\t:]+?)\s*: (.*)$", text, re.MULTILINE))
    flags = set(f"{fields.get('flags', '')} {fields.get('Features', '')}".split())
    sizes, line = _caches(caches)
    missing = [level for level in (1, 2) if level not in sizes]
    if missing:
        raise HostError(f"{caches}: says nothing of the level {missing[0]} cache; measure-host needs Linux's /sys")
    name = fields.get("model name") or f"{platform.machine()} {platform.processor()}".strip()
    return Machine(name, len(os.sched_getaffinity(0)), register_bytes(flags), line, sizes)


def register_bytes(flags: set[str]) -> int:
    """Width of a SIMD register, by the flags of /proc/cpuinfo. SVE's depends on the chip; its first 16 B are NEON's."""
    if "avx512f" in flags:
        return 64
    return 32 if "avx2" in flags else 16


def _caches(folder: Path) -> tuple[dict[int, int], int]:
    sizes: dict[int, int] = {}
    line = 64
    for index in sorted(folder.glob("index*")):
        if (index / "type").read_text().strip() == "Instruction":
            continue
        text = (index / "size").read_text().strip()
        sizes[int((index / "level").read_text())] = int(text[:-1]) * _UNITS[text[-1]]
        line = int((index / "coherency_line_size").read_text())
    return sizes, line
