"""What can go wrong between a source and its graph, told to the user."""

from __future__ import annotations

import linecache
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path

from tilewright.compiler.ir import Location
from tilewright.compiler.ir.near_match import near


class SourceError(Exception):
    """A source that cannot be loaded; the message says what, where, and what would do instead."""


class NoSuchSource(SourceError):  # noqa: N818 - reads as what is wrong
    """No such file, example or callable."""


def no_such_file(path: Path, pattern: str) -> NoSuchSource:
    """The error for a path that is no file, with the nearest of those beside it that match the pattern."""
    if path.is_dir():
        return NoSuchSource(f"{path} is a folder, not a file")
    siblings = (p.name for p in path.parent.glob(pattern)) if path.parent.is_dir() else ()
    return NoSuchSource(f"no such file: {path}{near(path.name, siblings)}")


class CallableFailed(SourceError):  # noqa: N818
    """The user's code raised."""


class WrongReturn(SourceError):  # noqa: N818
    """The callable did not return (model, args) or (model, args, kwargs)."""


class UnknownDim(SourceError):  # noqa: N818
    """A dim that the source does not take, or needs and was not given."""


class ViolatedGuard(SourceError):  # noqa: N818
    """A size for which the exported program does not hold: out of range, or against a check that torch made."""


class DataDependentShape(SourceError):  # noqa: N818
    """A size that is known only when the model runs, from the values of its tensors."""


class ExportFailed(SourceError):  # noqa: N818
    """torch.export could not capture the model."""


class BadArchive(SourceError):  # noqa: N818
    """An archive that is damaged, that is no program, or that asks for more than any program needs."""


class BadConfig(SourceError):  # noqa: N818
    """A model's configuration or its weights do not make a model."""


class MissingPackage(SourceError):  # noqa: N818
    """The source needs a package that is not installed."""


class Unsupported(Exception):  # noqa: N818
    """Raised by a lowering for a form of its op that it does not take; says which."""


@dataclass(frozen=True, slots=True)
class UnsupportedNode:
    """One node of the model without a lowering."""

    target: str  # aten.topk.default
    why: str  # empty where the op has no lowering at all
    location: Location


class UnsupportedOps(SourceError):  # noqa: N818
    """All operations of a model that have no lowering, each with its places."""

    def __init__(self, nodes: Sequence[UnsupportedNode]):
        self.nodes = tuple(nodes)
        places: dict[tuple[str, str], list[Location]] = defaultdict(list)
        for n in nodes:
            places[n.target, n.why].append(n.location)
        lines = [f"the model uses {len(places)} operation{'s' * (len(places) > 1)} that cannot be compiled yet:"]
        for (target, why), locations in places.items():
            lines.append(f"  {target}{f': {why}' if why else ''}")
            lines += [f"    {describe(at)}" for at in dict.fromkeys(locations)]
        lines.append("write them with other operations, or teach the importer: 'Add an op' in README.md")
        super().__init__("\n".join(lines))


def describe(at: Location) -> str:
    """`net.py:12 in layer1.conv, node conv2d: self.conv(x)`"""
    # The name may come from a file of somebody else: only Python's own sources are opened.
    text = linecache.getline(at.file, at.line).strip() if at.file.endswith(".py") and isfile(at.file) else ""
    place = at.source or "unknown line"
    if at.module:
        place += f" in {at.module}"
    return f"{place}, node {at.node}" + (f": {text}" if text else "")
