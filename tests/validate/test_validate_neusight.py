"""The order of NeuSight's batched products, and what a rest before some of them is worth."""

import csv
from itertools import pairwise

import pytest
from tilewright.targets.validation import find_tables
from tilewright.targets.validation.neusight import FASTEST, MEMORY_BYTES, REACTION_S, batched_products, grace_s
from tilewright.targets.validation.table import DATA

SHAPES = batched_products()
PLACE = {shape: i for i, shape in enumerate(SHAPES)}


def rows(device):
    with open(DATA / "gpu/neusight_bmm.csv", newline="") as file:
        return [tuple(int(r[c]) for c in "BMNK") for r in csv.DictReader(file) if device in r["Device"]]


def needs(shape):
    b, m, n, k = shape
    return 4 * b * (m * n + n * k + m * k)


@pytest.mark.parametrize(("device", "count"), [("L4", 523), ("A100", 622)])
def test_the_rows_are_in_the_order_of_the_list(device, count):
    places = [PLACE[b, m, n, k] for b, m, n, k in rows(device)]
    assert len(places) == count and places == sorted(places)


def test_shapes_that_do_not_fit_have_no_rows():
    assert max(map(needs, rows("L4"))) < MEMORY_BYTES < max(map(needs, rows("A100")))
    assert all(grace_s(s) == 0 for s in SHAPES if needs(s) > MEMORY_BYTES)


def test_a_rest_lasts_until_calls_have_taken_up_what_the_board_needs_to_react():
    after_rest = [b for a, b in pairwise(SHAPES) if needs(a) > MEMORY_BYTES >= needs(b)]
    short = [s for s in after_rest if needs(s) < 50e6]
    assert short and all(grace_s(s) == pytest.approx(REACTION_S / FASTEST, rel=0.02) for s in short)
    long = [s for s in after_rest if needs(s) > 240e9 * REACTION_S]
    assert long and not any(map(grace_s, long))
    worn = [(a, b) for a, b in pairwise(SHAPES) if 1e9 < needs(a) < MEMORY_BYTES > needs(b)]
    assert len(worn) > 100 and not any(grace_s(b) for _, b in worn)
    assert grace_s((1, 1, 1, 1)) == 0


def test_only_products_on_a_limited_board_come_after_a_rest():
    cases = [c for t in find_tables(["gpu/neusight"]) for c in t.cases()]
    graced = [c for c in cases if dict(c.settings).get("gpu.power.grace")]
    assert {(c.target, c.label.split()[0]) for c in graced} == {("l4", "bmm")}
    assert 100 < len(graced) < 200
    assert {dict(c.settings)["memory.slc.warm"] for c in cases} == {"1", "0.667"}
