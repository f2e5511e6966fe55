"""Errors against values worked out by hand."""

import pytest
from tilewright.compiler.ir import UNKNOWN
from tilewright.compiler.validate.price import causes, regime
from tilewright.compiler.validate.statistics import errors
from tilewright.targets.simulator import TaskTiming, Timing


def test_errors_by_hand():
    e = errors([1.1, 1.6, 4.0, 6.0], [1.0, 2.0, 4.0, 8.0])  # +10 %, -20 %, 0 %, -25 %
    assert (e.counted, e.mape, e.median, e.bias) == (4, 13.75, 15.0, -8.75)
    assert e.p90 == 23.5  # between the third and the fourth of 0, 10, 20, 25: at 2.7
    assert e.tau == 1.0


def test_tau_counts_pairs_out_of_order():
    assert errors([1.0, 3.0, 2.0], [1.0, 2.0, 3.0]).tau == pytest.approx(1 / 3, abs=1e-4)  # 2 of 3 pairs agree
    assert errors([3.0, 2.0, 1.0], [1.0, 2.0, 3.0]).tau == -1.0


@pytest.mark.parametrize(
    ("predicted", "measured"), [([1.0], [1.0]), ([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [3.0, 3.0])]
)
def test_tau_needs_two_different_rows(predicted, measured):
    assert errors(predicted, measured).tau is None


def test_no_rows_have_no_errors():
    e = errors([], [])
    assert (e.counted, e.mape, e.median, e.p90, e.bias, e.tau) == (0, None, None, None, None, None)


def test_rows_must_pair_up():
    with pytest.raises(ValueError, match="2 predictions for 1"):
        errors([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("compute", "memory", "launch", "expected"),
    [(1.0, 1.0, 1.1, "launch"), (2.0, 1.0, 0.5, "compute"), (1.0, 2.0, 1.9, "memory"), (1.9, 1.0, 1.0, "mixed")],
)
def test_regimes(compute, memory, launch, expected):
    assert regime(compute, memory, launch) == expected


def task(start: int, end: int, **breakdown: int) -> TaskTiming:
    return TaskTiming("op", UNKNOWN, "ane", "", start, end, 0, 0, 0, 0, {}, "", breakdown)


def test_causes_share_out_the_latency_once():
    tasks = [
        task(0, 100, launch=60, matrix=40),
        task(50, 150, dram=100),
        task(60, 90, vector=30),
        task(170, 200, dram=30),
    ]
    shares = causes(Timing(200, {}, 0, 0, 0, 0, tasks))
    picoseconds = {cause: round(s * 1e12) for cause, s in shares.items()}
    assert picoseconds == {"launch": 60, "matrix": 40, "dram": 50 + 30, "vector": 0, "idle": 20}
