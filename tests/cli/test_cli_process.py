"""What only a process of its own can show: start-up, closed pipes, and the same JSON whatever the hash seed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from cli_model import NET

TILEWRIGHT = [sys.executable, "-c", "import sys; from tilewright.compiler.cli import main; sys.exit(main())"]


def test_start_up_does_without_torch() -> None:
    script = (
        "import sys; from tilewright.compiler.cli import main; "
        "codes = [main(a) for a in (['--help'], ['cost', '--help'], ['targets', 'list'], ['targets', 'show', 'm1'])]; "
        "assert codes == [0] * 4, codes; assert not {'torch', 'numba'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_json_is_the_same_under_any_hash_seed(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    reports = []
    for seed in ("1", "2"):
        command = [*TILEWRIGHT, "cost", "net.py:net", "--target", "m4", "--json", "-"]
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        phases = json.loads(done.stdout)["phases"]
        text = done.stdout
        for name, seconds in phases.items():
            text = text.replace(f'"{name}": {json.dumps(seconds)}', f'"{name}": 0')
        reports.append(text)
    assert reports[0] == reports[1]


def test_a_pipe_that_closes_in_the_middle_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    command = [*TILEWRIGHT, "compile", "net.py:net", "--target", "m4"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("func.func @main")
        process.stdout.close()
        said = process.stderr.read()  # nothing but what is being done
        assert process.wait() in (0, 1) and "rror" not in said and "Traceback" not in said


def test_an_interrupt_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\n\n\ndef net():\n    open('started', 'w')\n    time.sleep(60)\n")
    command = [*TILEWRIGHT, "cost", "slow.py:net", "--target", "m4", "--json", "out.json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    with subprocess.Popen(command, cwd=tmp_path, text=True, preexec_fn=heard, **pipes) as process:
        until = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130 and out == "" and "Traceback" not in err and "rror" not in err
    assert {p.name for p in tmp_path.iterdir()} <= {"slow.py", "started", "__pycache__"}


def test_absurd_texts_take_little_memory(tmp_path: Path) -> None:
    """In a process that may have little more memory than the packages themselves take."""
    (tmp_path / "lines.mlir").write_text("%x = " * 10_000_000)
    (tmp_path / "lists.mlir").write_text("[" * 50_000_000)
    (tmp_path / "x.toml").symlink_to("/dev/zero")
    script = (
        "import resource; from tilewright.compiler.cli import main\n"
        "import tilewright.compiler.cli.program, tilewright.passes\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)\n"
        "texts = [['opt', t] for t in ('lines.mlir', 'lists.mlir', '/dev/zero')]\n"
        "commands = [*texts, ['targets', 'show', 'x.toml']]\n"
        "print([main(c) for c in commands])\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[1, 1, 1, 1]\n", done.stderr
    assert done.stderr.count("error: ") == 4 and "memory" not in done.stderr
    assert time.monotonic() - started < 60


def test_a_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen(
        [*TILEWRIGHT, "targets", "show", "m4"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() in (0, 1)
    process.stderr.close()
