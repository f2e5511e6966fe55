"""Packages that define networks, for tests that do without them where they are not installed."""

from typing import Any

import pytest
from tilewright.compiler.validate.packages import MissingDefinition, package


def wanted(name: str) -> Any:
    """The package; the test is skipped without it."""
    try:
        return package(name)
    except MissingDefinition as missing:
        pytest.skip(str(missing))
