"""Python's collector of reference cycles, put off where nothing that is made becomes garbage soon.

It goes over every live object again and again while a program grows, torch's and the model's among them: a third of the
time of the passes over 8,000 ops.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Cycles that are made inside are collected some time after it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
