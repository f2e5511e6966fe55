"""Every architecture of the zoo at every level, against eager. Run by hand: `pytest -m zoo` (see README.md here)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from zoo_measure import entries, measure
from zoo_table import MARK

ENTRIES = entries()
README = Path(__file__).with_name("README.md")


@pytest.mark.zoo
@pytest.mark.parametrize("package", ["transformers", "timm", "diffusers", "torchvision"])
def test_package_is_installed(package: str) -> None:
    """An architecture whose package is missing fails, it is not skipped; this says so in one line."""
    assert importlib.util.find_spec(package), f"{package} is missing: {README} says how to install it"


@pytest.mark.zoo
@pytest.mark.parametrize("name", ENTRIES)
def test_architecture(name: str) -> None:
    wrong = measure(name, ENTRIES[name]).wrong
    assert not wrong, wrong


def test_table_lists_every_architecture() -> None:
    rows = README.read_text(encoding="utf-8").partition(MARK)[2].splitlines()
    assert [row.split(" |")[0].removeprefix("| ") for row in rows if row.startswith("| ")][2:] == list(ENTRIES)
