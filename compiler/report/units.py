"""Numbers for people: times, bytes and shares, and columns of them that add up as printed."""

from __future__ import annotations

from collections.abc import Sequence

_TIMES = ((10**12, "s"), (10**9, "ms"), (10**6, "us"), (10**3, "ns"))
_BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def format_ps(ps: int) -> str:
    """`1.234 ms`, in the largest unit that leaves a whole part."""
    for size, unit in _TIMES:
        if ps >= size:
            return f"{ps / size:.3f} {unit}"
    return f"{ps} ps"


def format_bytes(count: int) -> str:
    for size, unit in _BYTES:
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def time_column(parts: Sequence[int]) -> tuple[list[str], str]:
    """Each part (picoseconds) and their total, in the unit of the total, rounded so that the column adds up."""
    total = sum(parts)
    size, unit = next(((s, u) for s, u in _TIMES if total >= s), _TIMES[-1])
    cells, whole = _column(parts, 1000, size)
    return [f"{c} {unit}" for c in cells], f"{whole} {unit}"


def share_column(parts: Sequence[int]) -> tuple[list[str], str]:
    """Each part's percentage of their total, rounded so that the column adds up to 100.0%."""
    cells, whole = _column(parts, 1000, max(sum(parts), 1), decimals=1)
    return [f"{c}%" for c in cells], f"{whole}%"


def _column(parts: Sequence[int], steps: int, size: int, decimals: int = 3) -> tuple[list[str], str]:
    """Parts in 1/`steps` of `size`, each the difference of two rounded running sums, printed with `decimals`."""
    cells, running, before = [], 0, 0
    for part in parts:
        running += part
        after = (2 * running * steps + size) // (2 * size)
        cells.append(f"{(after - before) / 10**decimals:.{decimals}f}")
        before = after
    return cells, f"{before / 10**decimals:.{decimals}f}"
