"""The built wheel holds every package and data file of the tree, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = CONFIG["tool"]["setuptools"]["package-dir"]  # package -> folder
LOADED_BY_PATH = {"examples/passes", "examples/studies"}  # files for `opt --load` and for python, not for import
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.pyc")


def tree_files() -> set[str]:
    """What the wheel must hold: every file under the packages' folders, by its path in the wheel."""
    files = set()
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT)
            if path.is_file() and "__pycache__" not in inside.parts and inside.parent.as_posix() not in LOADED_BY_PATH:
                files.add(f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}")
    return files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel built from a copy of the tree."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, copy / folder, ignore=NOT_SHIPPED)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    build = "import setuptools.build_meta as backend; backend.build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (copy / "dist").glob("tilewright-*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_wheel_holds_the_tree(wheel: set[str]) -> None:
    shipped = {name for name in wheel if ".dist-info/" not in name}
    assert shipped == tree_files()


def test_wheel_has_the_command(wheel: set[str]) -> None:
    assert any(name.endswith(".dist-info/entry_points.txt") for name in wheel)
    assert CONFIG["project"]["scripts"] == {"tilewright": "tilewright.compiler.cli:main"}


def test_type_checkers_find_every_folder() -> None:
    for package, folder in FOLDERS.items():
        link = ROOT / ".typing" / package.replace(".", "/")
        assert link.is_symlink() and link.resolve() == ROOT / folder, f"{link} should lead to {folder}"
