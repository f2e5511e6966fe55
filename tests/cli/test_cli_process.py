"""What only a process of its own can show: start-up, closed pipes, and the same JSON whatever the hash seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


def test_a_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen(
        [*TILEWRIGHT, "targets", "show", "m4"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() in (0, 1)
    process.stderr.close()
