"""Where an FX node comes from: its module in the model, and the innermost line that is not torch's own."""

from __future__ import annotations

import os
import re
from functools import lru_cache

import torch
from tilewright.compiler.ir import Location
from torch.fx import Node

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_TORCH = os.path.dirname(torch.__file__) + os.sep


@lru_cache(maxsize=65536)
def _source(stack_trace: str) -> tuple[str, int]:
    """File and line of the innermost frame outside torch; ("", 0) where there is none."""
    for file, line in reversed(_FRAME.findall(stack_trace)):
        if not file.startswith((_TORCH, "<")):
            return _shorten(file), int(line)
    return "", 0


def _shorten(file: str) -> str:
    """Relative to the working directory where the file lies below it."""
    here = os.getcwd() + os.sep
    return file.removeprefix(here)


def location_of(node: Node) -> Location:
    file, line = _source(node.meta.get("stack_trace") or "")
    stack = node.meta.get("nn_module_stack")
    module = next(reversed(stack.values()))[0] if stack else ""
    return Location(file=file, line=line, module=module, node=node.name)
