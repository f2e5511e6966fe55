"""Numbers for people: times, bytes, counts and shares; and columns of them that add up as printed."""

from __future__ import annotations

from collections.abc import Sequence

Units = tuple[tuple[int, str], ...]  # (size, name), the largest first; the last also serves what is smaller

TIMES: Units = ((10**12, "s"), (10**9, "ms"), (10**6, "us"), (10**3, "ns"), (1, "ps"))
BYTES: Units = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
ENERGIES: Units = ((10**12, "J"), (10**9, "mJ"), (10**6, "uJ"), (10**3, "nJ"), (1, "pJ"))
COUNTS: Units = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"), (1, ""))


def _unit(value: int, units: Units) -> tuple[int, str]:
    """The largest unit that leaves a whole part."""
    return next((unit for unit in units if value >= unit[0]), units[-1])


def _format(value: int, units: Units) -> str:
    size, name = _unit(value, units)
    return f"{value / size:.3f} {name}" if size > 1 else f"{value} {name}".strip()


def format_ps(ps: int) -> str:
    """`1.234 ms`"""
    return _format(ps, TIMES)


def format_bytes(count: int) -> str:
    """`1.500 KiB`"""
    return _format(count, BYTES)


def format_pj(pj: int) -> str:
    """`1.234 mJ`"""
    return _format(pj, ENERGIES)


def format_count(count: int) -> str:
    """`4.089 G`"""
    return _format(count, COUNTS)


def share(part: int, whole: int) -> str:
    """`12.5%`"""
    return f"{100 * part / whole:.1f}%" if whole else "-"


def column(parts: Sequence[int], units: Units) -> list[str]:
    """Each part, then their total, all in the unit of the total; the parts as printed add up to it."""
    size, name = _unit(sum(parts), units)
    decimals = 3 if size > 1 else 0
    return [f"{cell} {name}".strip() for cell in _cells(parts, size, decimals)]


def share_column(parts: Sequence[int]) -> list[str]:
    """Each part's percentage of their total, then 100.0%; the parts as printed add up to it."""
    return [f"{cell}%" for cell in _cells([100 * part for part in parts], max(sum(parts), 1), 1)]


def _cells(parts: Sequence[int], size: int, decimals: int) -> list[str]:
    """Parts and total over `size`, rounded. What that leaves over goes to the largest cells, a last digit at a time."""
    steps = 10**decimals
    cells = [_rounded(part * steps, size) for part in parts]
    total = _rounded(sum(parts) * steps, size)
    while rest := total - sum(cells):
        largest = [i for i, cell in enumerate(cells) if cell == max(cells)]
        cells[largest[0 if rest > 0 else -1]] += 1 if rest > 0 else -1  # keeps equal rows in falling order
    return [f"{cell / steps:.{decimals}f}" for cell in [*cells, total]]


def _rounded(value: int, size: int) -> int:
    return (2 * value + size) // (2 * size)
