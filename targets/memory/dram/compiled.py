"""How the DRAM models compile their loops.

None of them allocates, so arrays need no reference counts: counting, on every access to an array in a tuple, would take
ten times the work itself.
"""

from __future__ import annotations

from typing import Any

from numba import njit

_OPTIONS: dict[str, Any] = {"cache": True, "_nrt": False, "error_model": "numpy"}
compiled: Any = njit(**_OPTIONS)
inlined: Any = njit(**_OPTIONS, forceinline=True)
