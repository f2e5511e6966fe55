"""What a harness adds to a predicted time, or takes from it."""

import pytest
from tilewright.compiler.validate.price import Price
from tilewright.compiler.validate.summary import Priced
from tilewright.targets.validation import find_tables
from tilewright.targets.validation.case import DEVICE, Case, Harness

PRICE = Price(10e-3, 5e-3, 8e-3, "memory", io_bytes=1000, tasks=600, task_s=4e-6)


def predicted(harness: Harness) -> float:
    return Priced(Case("m2", None, 1.0, harness=harness), PRICE, {"model": harness.call_s or 0.0}).predicted("model")


@pytest.mark.parametrize(("kernels", "expected"), [(0, 10e-3), (600, 10e-3), (850, 11e-3), (350, 9e-3)])
def test_kernels_that_the_program_has_not_cost_a_task_each(kernels, expected):
    assert predicted(Harness("h", "here", kernels=kernels)) == pytest.approx(expected)


def test_the_calls_own_cost_comes_on_top():
    assert predicted(DEVICE) == pytest.approx(10e-3)
    assert predicted(Harness("h", "here", call_s=0.5e-3, factor=1.1, kernels=850)) == pytest.approx(12.6e-3)


def test_language_models_say_how_they_ran():
    (table,) = find_tables(["apple/llm"])
    harness = {c.part.split()[0]: c.harness.name for c in table.cases()}
    assert harness == {"llama.cpp": "llama.cpp", "MLX": "MLX experts", "ANE": "device"}
    tokens = {c.workload.tokens for c in table.cases() if c.part == "MLX decode"}
    assert tokens == {2048 + 64}, "what follows a prompt of 2048"
