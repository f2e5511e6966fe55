"""Where the commands write: the console for people, a progress line, and files that are whole or not there."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

PIPE_WIDTH = 200  # columns where the output is no terminal: wide enough for module paths
SLOW_S = 5.0  # how often a line is written where stderr is no terminal, so that quick work writes none


def console() -> Console:
    """The console on stdout: as wide as the terminal; piped, wide enough that no cell is cut."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False)


class Progress:
    """A line on stderr that says what is being done, and how long each phase took.

    On a terminal the line is rewritten in place and removed at the end. Elsewhere a new one is written every `SLOW_S`.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = self._written = time.perf_counter()
        self._terminal = sys.stderr.isatty()

    @contextmanager
    def line(self) -> Iterator[None]:
        """Removes the line when what runs inside is done, so that nothing is written after it."""
        try:
            yield
        finally:
            if self._terminal:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()

    @contextmanager
    def phase(self, key: str, doing: str) -> Iterator[None]:
        """Times what runs inside, under `key`, and shows `doing`."""
        started = time.perf_counter()
        with self.line():
            self.show(doing)
            yield
        self.seconds[key] = time.perf_counter() - started

    def show(self, doing: str) -> None:
        now = time.perf_counter()
        elapsed = now - self._started
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{doing}... ({elapsed:.0f} s)")
        elif now - self._written > SLOW_S:
            self._written = now
            sys.stderr.write(f"{doing}... ({elapsed:.0f} s)\n")
        sys.stderr.flush()


def check_output(path: str | None) -> None:
    """Raises OSError where `path` cannot be written to, before any work is done for it; None and '-' are stdout."""
    if path is None or path == "-":
        return
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", path)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(target.parent))
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "no permission to write", path)


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` with a temporary path beside `path` and renames it there, so that `path` is never half-written.

    What is no regular file, such as /dev/null, is written to as it is.
    """
    path = path.resolve()  # a link stays a link
    if path.exists() and not path.is_file():
        write(path)
        return
    handle, name = tempfile.mkstemp(prefix=".tilewright-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | None, text: str) -> None:
    """Writes `text` to the file `path`, or to stdout where it is None or '-'."""
    if path is None or path == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_file(Path(path), lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
