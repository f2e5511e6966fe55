"""The closed forms of systolic arrays against the reference that moves every operand, and against SCALE-Sim."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tilewright.targets.engines.systolic import DATAFLOWS, SystolicArray, scalesim_cycles
from tilewright.targets.engines.systolic.register_transfer import run
from tilewright.targets.validation import find_tables

CASES = 1000


def _random_array(rng: random.Random) -> SystolicArray:
    dataflow = rng.choice(DATAFLOWS)
    holds_sums = dataflow == "os"
    return SystolicArray(
        rng.randint(1, 6),
        rng.randint(1, 6),
        dataflow,
        overlapped=rng.random() < 0.5,
        preload_rows=1 if holds_sums else rng.randint(1, 3),
        drains=holds_sums and rng.random() < 0.5,
        accumulator_rows=0 if holds_sums else rng.choice([0, 0, 1, 3, 5]),
    )


@pytest.mark.parametrize("seed", range(10))
def test_closed_forms_are_what_the_registers_do(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(CASES // 10):
        array = _random_array(rng)
        m, n, k = (rng.randint(1, 14) for _ in range(3))
        numbers = np.random.default_rng(rng.randrange(2**32))
        a, b = numbers.integers(-99, 99, (m, k)), numbers.integers(-99, 99, (k, n))
        product, cycles = run(array, a, b)
        assert np.array_equal(product, a @ b), (array, m, n, k)
        assert cycles == array.cycles(m, n, k), (array, m, n, k)


def test_every_row_of_scalesim_is_met_exactly() -> None:
    (table,) = find_tables(["systolic/scalesim_golden"])
    cases = table.cases()
    assert len(cases) == 661
    for case in cases:
        w = case.workload
        assert scalesim_cycles(w.m, w.n, w.k, w.rows, w.columns, w.dataflow) == case.measured, case.label  # type: ignore[union-attr]


def test_a_second_set_of_registers_hides_the_preload() -> None:
    alone = SystolicArray(128, 128).cycles(1024, 1024, 1024)
    hidden = SystolicArray(128, 128, overlapped=True).cycles(1024, 1024, 1024)
    assert alone == 64 * (2 * 128 + 128 + 1024 - 2)
    assert hidden == 64 * 1024 + 128 + 128 + 128 - 2


def test_a_short_stream_waits_for_the_preload() -> None:
    array = SystolicArray(256, 256, overlapped=True, preload_rows=2)
    assert array.cycles(128, 2560, 1024) - array.cycles(1, 2560, 1024) == 127
    assert array.cycles(129, 2560, 1024) - array.cycles(128, 2560, 1024) == 40


def test_arrays_share_columns_or_rows() -> None:
    two, one = (SystolicArray(8, 8, overlapped=True, arrays=n) for n in (2, 1))
    assert two.cycles(64, 16, 8) == one.cycles(64, 8, 8)
    assert two.cycles(64, 8, 8) == one.cycles(32, 8, 8), "one fold of columns: each array takes half of the rows"
    assert two.cycles(64, 24, 8) == min(one.cycles(64, 16, 8), one.cycles(32, 24, 8))


def test_odd_sizes_pay_whole_folds() -> None:
    array = SystolicArray(8, 8, overlapped=True)
    assert array.cycles(5, 9, 9) == array.cycles(5, 16, 16)
    assert array.cycles(5, 16, 16) < array.cycles(5, 17, 16)


def test_what_makes_no_sense_is_an_error() -> None:
    with pytest.raises(ValueError, match="'rs' is no dataflow; expected one of ws, is, os"):
        SystolicArray(8, 8, "rs")
    with pytest.raises(ValueError, match="at least one row"):
        SystolicArray(0, 8)
    with pytest.raises(ValueError, match="at least one row, column and term, not 0x4x4"):
        SystolicArray(8, 8).cycles(0, 4, 4)
    with pytest.raises(ValueError, match="the reference is of one array"):
        run(SystolicArray(2, 2, arrays=2), np.ones((2, 2), int), np.ones((2, 2), int))
