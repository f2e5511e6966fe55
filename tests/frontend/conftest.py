"""An archive as torch writes it, for tests that break it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from frontend_check import integers, tensor
from pt2_files import ConvNet, save


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("archive") / "good.pt2"
    return save(path, ConvNet().eval(), (tensor(2, 3, 8, 8), integers(0, 2, 2)))


@pytest.fixture(scope="module")
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For the files that messages name."""
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("details"))
    yield
    tempfile.tempdir = before
