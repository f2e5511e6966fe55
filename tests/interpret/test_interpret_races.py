"""The race checker: quiet on a right program, and loud about each token, slot and address that is taken away."""

import re

import numpy as np
import pytest
from tilewright.compiler.dialects import soc
from tilewright.compiler.interpret import check_races, find_conflicts
from tilewright.compiler.interpret.races import ADVERSARIAL

RNG = np.random.default_rng(3)
INPUTS = [RNG.standard_normal(s).astype("f2") for s in ((13, 17), (10, 17))]
TOKENS = {  # what goes wrong without it
    "x.free": "copy on @ane.load .* is not ordered after soc.exec on @ane.mac",
    "w.free": "copy on @ane.weights .* is not ordered after soc.exec on @ane.mac",
    "mac.x": "exec on @ane.mac .* is not ordered after soc.copy on @ane.load",
    "mac.w": "exec on @ane.mac .* is not ordered after soc.copy on @ane.weights",
    "mac.acc": "exec on @ane.mac .* is not ordered after soc.exec on @ane.vec",
    "vec.acc": "exec on @ane.vec .* is not ordered after soc.exec on @ane.mac",
    "vec.free": "exec on @ane.vec .* is not ordered after soc.copy on @ane.store",
    "store.y": "copy on @ane.store .* is not ordered after soc.exec on @ane.vec",
    "end.y": "the program, which reads its outputs, is not ordered after soc.copy on @ane.store",
}


@pytest.mark.parametrize("arith", ["native", "f32"])
@pytest.mark.parametrize(
    "options", [{}, {"slots": 3}, {"tiles": (13, 10, 17)}, {"tiles": (1, 1, 1), "m": 3, "n": 2, "k": 4}]
)
def test_a_right_program_has_no_races(soc_matmul, options, arith):
    module = soc_matmul(**options)
    inputs = [
        RNG.standard_normal(b.result.type.shape).astype("f2") for b in module.main.body if b.name == "soc.buffer"
    ][:2]
    report = check_races(module, inputs, orders=len(ADVERSARIAL) + 2, arith=arith)
    assert report and str(report) == "no races"


@pytest.mark.parametrize("token", TOKENS)
def test_a_missing_token_is_found_both_ways(soc_matmul, token):
    report = check_races(soc_matmul(drop=(token,)), INPUTS, orders=len(ADVERSARIAL) + 2)
    assert not report
    text = "\n".join(map(str, report.conflicts))
    assert re.search(TOKENS[token], text), text
    assert report.differences


@pytest.mark.parametrize("arith", ["native", "f32"])
def test_one_slot_where_the_tokens_need_two(soc_matmul, arith):
    report = check_races(soc_matmul(slots=1), INPUTS, arith=arith)
    assert {c.space for c in report.conflicts} == {"ane.l2", "ane.wbuf"}
    assert any(d.what == "output 0" for d in report.differences)


@pytest.mark.parametrize("arith", ["native", "f32"])
def test_overlapping_addresses(soc_matmul, arith):
    report = check_races(soc_matmul(addresses={"y": 64}), INPUTS, arith=arith)
    assert report.conflicts and report.differences
    assert "the buffer at byte 64 of ane.l2" in str(report)


def test_an_overlap_that_is_in_order_reads_what_another_buffer_wrote(soc_matmul):
    """x and y of the whole product may share memory, for x is read before y is written; y over the output's may not."""
    assert not find_conflicts(soc_matmul(tiles=(13, 10, 17), addresses={"y": 0}))
    module = soc_matmul()
    output = [op for op in module.main.body if isinstance(op, soc.Buffer)][2]
    output.address = 0  # over x, while blocks of x are still to be loaded
    kinds = {c.kind for c in find_conflicts(module, most=100)}
    assert "overlap" in kinds and "race" in kinds


def test_reads_of_what_nobody_wrote(soc_matmul):
    module = soc_matmul()
    x, _, y = (op for op in module.main.body if isinstance(op, soc.Buffer))
    x.role = "temporary"
    (conflict,) = find_conflicts(module)
    assert conflict.kind == "unwritten" and "on @ane.load" in conflict.later
    x.role = "input"
    store = next(op for op in module.main.walk() if isinstance(op, soc.Copy) and not op.loads)
    store.access = ("m", "n+1")  # the first column is left out
    (conflict,) = find_conflicts(module)
    assert (conflict.kind, conflict.address) == ("unwritten", y.address)


def test_no_more_conflicts_than_asked_for(soc_matmul):
    module = soc_matmul(drop=tuple(TOKENS))
    assert len(find_conflicts(module, most=100)) > 3
    assert len(find_conflicts(module, most=2)) == 2
