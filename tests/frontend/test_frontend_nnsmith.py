"""Random models of NNSmith at the soc level against eager: a few by default, all 200 with `pytest -m slow`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Any

import nnsmith_check
import numpy as np
import pytest
import torch
from frontend_check import Function
from nnsmith_check import check, difference
from nnsmith_models import Generated, digest, generate
from tilewright.compiler.interpret import run_soc

SEEDS = range(200)
QUICK = SEEDS[7::19]  # of every size, method and choice of ops
MOST_WITHOUT_EXPORT, MOST_WITHOUT_ONE_ANSWER = 4, 6  # measured: 0 and 2


@pytest.mark.parametrize("seed", QUICK)
def test_a_seed_agrees_with_eager(seed: int) -> None:
    verdict = check(generate(seed))
    assert verdict.outcome == "agrees", f"seed {seed}: {verdict.outcome}: {verdict.why}"


@pytest.mark.slow
def test_every_seed_agrees_with_eager() -> None:
    """All that export agree, but for a few whose outputs rounding decides; those are bounded."""
    verdicts = [check(generate(seed)) for seed in SEEDS]
    counts = Counter(v.outcome for v in verdicts)
    summary = "\n".join([str(dict(counts)), *(f"seed {v.seed}: {v.outcome}: {v.why}" for v in verdicts if v.why)])
    print(summary)
    assert not counts["fails"], summary
    assert counts["no export"] <= MOST_WITHOUT_EXPORT, summary
    assert counts["no one answer"] <= MOST_WITHOUT_ONE_ANSWER, summary


def test_a_seed_makes_the_same_model_in_any_process_and_order() -> None:
    seeds = (26, 7)  # of two methods, with and without ops of a limited domain
    here = [digest(generate(seed)) for seed in seeds]
    script = os.path.join(os.path.dirname(__file__), "nnsmith_models.py")
    command = [sys.executable, script, *map(str, reversed(seeds))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    assert done.returncode == 0, done.stderr
    there = [line for line in done.stdout.splitlines() if len(line) == len(here[0]) and " " not in line]
    assert there == here[::-1]


def off_by(error: float, model: Any, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> str:
    """The outcome for a model of one input, where the compiler's first element is off by `error`."""

    def run(*arguments: Any) -> list[np.ndarray[Any, Any]]:
        (y,) = run_soc(*arguments)
        y = y.copy()
        y[0] += error
        return [y]

    monkeypatch.setattr(nnsmith_check, "run_soc", run)
    return check(Generated(0, "", Function(model), (x,), True)).outcome


def test_the_check_tells_a_wrong_value_from_one_that_rounding_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(0.5, 8)
    assert off_by(0, torch.floor, x, monkeypatch) == "agrees"
    assert off_by(1, torch.floor, x, monkeypatch) == "fails"
    assert off_by(1e-2, torch.sin, x, monkeypatch) == "fails"
    near = x * 2 - 1e-7  # the first is 1 or a little less
    assert off_by(1, lambda x: torch.floor(x * 1), near, monkeypatch) == "no one answer"
    assert off_by(4, lambda x: torch.floor(x * 1), near, monkeypatch) == "fails"


def test_differences_are_told() -> None:
    x = np.array([1.0, np.nan, np.inf, -2.0], np.float32)
    assert difference(x, x.copy(), 1e-4) is None
    assert difference(np.where(np.isnan(x), 0, x), x, 1e-4)
    assert difference(-x, x, 1e-4)
    assert difference(x * np.float32(1.001), x, 1e-4)
    assert difference(x.astype(np.float64), x, 1e-4)
    assert difference(np.array([2**40 + 1]), np.array([2**40]), 1e-4)
