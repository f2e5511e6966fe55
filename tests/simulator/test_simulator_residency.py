"""The plan of the system-level cache: what reaches DRAM."""

from __future__ import annotations

import pytest
from soc_programs import FakeTarget, Program, chain, matmul_task
from tilewright.compiler.dialects import soc
from tilewright.compiler.ir import MemRefType, Value
from tilewright.targets.simulator import Timing, simulate
from tilewright.targets.simulator.caches import Access, LeastRecent, Scratchpad

BLOCK = 8 * 64 * 2  # bytes of what `pairs` moves


def buffers(count: int) -> list[soc.Buffer]:
    kind = MemRefType((64,), "f16", (1,), 0, "dram")
    return [soc.Buffer(result_types=[kind], address=0) for _ in range(count)]


def test_cache_gives_up_the_least_recently_used():
    a, b, c = buffers(3)
    cache = LeastRecent(100)
    assert cache.put(a, 40, dirty=False) == 0
    assert cache.put(b, 40, dirty=False) == 0
    assert cache.put(a, 40, dirty=False) == 0  # a is the recent one now
    assert cache.put(c, 50, dirty=False) == 0
    assert cache.held == {b: 10, a: 40, c: 50}
    assert cache.task([Access(b, 40)])[0].held == 10


def test_cache_writes_back_what_is_dirty():
    a, b, c = buffers(3)
    cache = LeastRecent(100)
    cache.put(a, 60, dirty=True)
    assert cache.put(b, 60, dirty=False) == 20  # 20 bytes of a have to go, dirty
    assert cache.dirty[a] == 40
    assert cache.put(c, 130, dirty=True) == 30 + 40  # what of c does not fit itself, and the rest of a
    assert cache.held == {c: 100}


def test_cache_drops_without_writing():
    (a,) = buffers(1)
    cache = LeastRecent(100)
    cache.put(a, 60, dirty=True)
    cache.drop(a)
    assert (cache.held, cache.dirty) == ({}, {})


def pairs(p: Program, source: Value | None, target: Value | None) -> None:
    with p.task() as task:
        b, token = p.buffer(":8, :64", 8, 64), task.args[0]
        if source is not None:
            token = p.load(source, ":8, :64", b, token)
        if target is not None:
            token = p.store(b, target, ":8, :64", token)
        task.yields(token)


def through(slc_bytes: int, role: str = "temporary") -> Timing:
    """Writes a and b, reads a and b."""
    p = Program()
    a, b = p.dram(8, 64, role=role), p.dram(8, 64, role=role)
    with p.launch("ane"):
        pairs(p, None, a)
        pairs(p, None, b)
        pairs(p, a, None)
        pairs(p, b, None)
    return simulate(p.module(), FakeTarget().with_memory(slc_bytes=slc_bytes))


def test_what_was_written_is_read_from_the_cache():
    timing = through(4 * BLOCK)
    assert (timing.dram_read_bytes, timing.dram_write_bytes) == (0, 0)
    # half of a had to make room for b; reading that back takes room of b, whose half is then written
    timing = through(BLOCK * 3 // 2)
    assert [(t.dram_read_bytes, t.dram_write_bytes) for t in timing.tasks] == [
        (0, 0),
        (0, BLOCK // 2),
        (BLOCK // 2, BLOCK // 2),
        (BLOCK // 2, 0),
    ]


def test_results_are_written_through():
    timing = through(4 * BLOCK, role="output")
    assert (timing.dram_read_bytes, timing.dram_write_bytes) == (0, 2 * BLOCK)


def test_parameters_stream_through():
    def reads(role: str) -> int:
        p = Program()
        x = p.dram(8, 64, role=role)
        with p.launch("ane"):
            pairs(p, x, None)
            pairs(p, x, None)
        return simulate(p.module(), FakeTarget()).dram_read_bytes

    assert reads("parameter") == 2 * BLOCK
    assert reads("input") == BLOCK


@pytest.mark.parametrize("fidelity", ["roofline", "analytic", "cycle"])
def test_a_run_on_the_same_tensors_finds_them_if_all_fit(fidelity: str):
    module = chain(3, 64, 64, (16, 32, 32))
    size = 64 * 64 * 2
    all_of_them = (1 + 3 + 3) * size  # the input, three weights, three products

    def traffic(warm: int) -> tuple[int, int]:
        timing = simulate(module, FakeTarget().with_memory(slc_warm_bytes=warm), fidelity)
        return timing.dram_read_bytes, timing.dram_write_bytes

    assert traffic(all_of_them) == (0, 0)
    assert traffic(all_of_them - 1) == traffic(0) == (4 * size, size)


def matmul_traffic(slc_bytes: int) -> Timing:
    """64x256 @ 256x256: x is 32 KiB, w 128 KiB, y 32 KiB; 4 x 4 x 4 tiles, so both are moved four times."""
    p = Program()
    x, w, y = p.dram(64, 256), p.dram(256, 256, role="parameter"), p.dram(64, 256, role="output")
    with p.launch("ane"):
        matmul_task(p, x, w, y, (16, 64, 64))
    return simulate(p.module(), FakeTarget().with_memory(slc_bytes=slc_bytes))


def test_a_task_reads_again_from_the_cache_what_fits():
    kib = 1024
    everything = matmul_traffic(1024 * kib)
    assert everything.tasks[0].bytes == (4 * 32 + 4 * 128 + 32) * kib
    assert (everything.dram_read_bytes, everything.dram_write_bytes) == ((32 + 128) * kib, 32 * kib)
    # one row of tiles with the whole of w does not fit: w comes again for each of the 4 rows of tiles
    assert matmul_traffic(100 * kib).dram_read_bytes == (32 + 4 * 128) * kib
    # nothing but the blocks of one step fits: x too comes four times
    assert matmul_traffic(12 * kib).dram_read_bytes == (4 * 32 + 4 * 128) * kib


def test_a_chain_moves_only_weights_and_its_ends():
    timing = simulate(chain(5, 64, 64, (16, 32, 32)), FakeTarget())
    size = 64 * 64 * 2
    assert (timing.dram_read_bytes, timing.dram_write_bytes) == (size + 5 * size, size)


def test_overlapping_windows_are_fetched_once():
    p = Program()
    x = p.dram(8, 66)
    with p.launch("ane"), p.task() as task:
        b = p.buffer(":8, w:3", 8, 18)
        with p.loop("w", 64, 16, *task.args) as loop:
            loop.yields(p.load(x, ":8, w:3", b, *loop.args))
        task.yields(*loop.tokens)
    timing = simulate(p.module(), FakeTarget())
    assert timing.tasks[0].bytes == 4 * 8 * 18 * 2
    assert timing.dram_read_bytes == 8 * 66 * 2


def test_scratchpad_holds_temporaries_whole_or_not_at_all():
    a, b, c = buffers(3)
    for buffer in (a, b):
        buffer.role = "temporary"
    c.role = "input"
    pad = Scratchpad(200)
    assert pad.put(a, 64, dirty=True) == 0, "all 128 bytes have a place from the first store on"
    assert pad.put(b, 64, dirty=True) == 64, "no room for it: its bytes go to memory"
    assert pad.put(c, 64, dirty=False) == 0
    assert pad.held == {a: 128}
    assert [x.held for x in pad.task([Access(a, 32), Access(b, 32)])] == [32, 0]
    pad.drop(a)
    assert pad.put(b, 64, dirty=True) == 64, "what has gone to memory stays there"
