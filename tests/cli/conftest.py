"""The command line, called in this process."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from cli_model import NET, Result, Tilewright
from tilewright.compiler.cli import main


@pytest.fixture
def tw(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tilewright:
    """Runs `tilewright ARGS...` in an empty folder that holds net.py."""
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(*args: str) -> Result:
        capsys.readouterr()
        code = main(args)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def ok(tw: Tilewright) -> Tilewright:
    """The same, for a command that must succeed."""

    def run(*args: str) -> Result:
        result = tw(*args)
        assert result.code == 0, result.err
        return result

    return run
