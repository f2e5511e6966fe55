"""What tests of broken and hostile archives share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tilewright.compiler.frontend.errors import BadArchive, SourceError
from tilewright.compiler.frontend.sources import load

Edit = Callable[[Any], Any]


def refused(path: Path, told: str, kind: type[SourceError] = BadArchive, **options: Any) -> str:
    with pytest.raises(kind, match=told) as caught:
        load(str(path), **options)
    text = str(caught.value)
    assert "Traceback" not in text and all(c.isprintable() or c == "\n" for c in text)
    return text


def graph_of(program: Any) -> Any:
    return program["graph_module"]["graph"]


def node_of(program: Any, name: str) -> Any:
    return next(n for n in graph_of(program)["nodes"] if n["name"] == name)


def sizes(*ns: int) -> dict[str, Any]:
    strides = [1]
    for n in reversed(ns[1:]):
        strides.insert(0, strides[0] * max(n, 1))
    return {"sizes": [{"as_int": n} for n in ns], "strides": [{"as_int": min(s, 2**63 - 1)} for s in strides]}
