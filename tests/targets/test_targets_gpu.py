"""Kernels of GPUs: blocks on cores, waves, what is resident, splits, rows, power; and that programs still compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from target_blocks import block, elementwise, matmul, work
from tilewright.compiler.dialects import tile
from tilewright.compiler.ir import Operation
from tilewright.compiler.pipeline import run_passes
from tilewright.compiler.validate.build import build
from tilewright.passes import PassContext, default_pipeline
from tilewright.targets import Target, TargetError, load_target
from tilewright.targets.engines import Work
from tilewright.targets.engines.demand import Gemm, Vector
from tilewright.targets.engines.gpu import Gpu
from tilewright.targets.engines.kernels import Core, Data, Kernel, best_cycles
from tilewright.targets.simulator import simulate
from tilewright.targets.validation import workloads
from tilewright.targets.validation.workloads import Attention, Conv, Elementwise, LayerNorm, Softmax, Workload

CORE = Core(
    cores=10,
    registers=256 * 1024,
    shared=100 * 1024,
    threads=1024,
    blocks=16,
    schedulers=4,
    local_rate=128.0,
    l2_rate=64.0,
    step_cycles=0.0,
    latency=500.0,
)
TILE = Kernel(64, 64, 8, 128)
PLAIN = Data(64.0, 4, through_registers=False)


def product(rows: int, cols: int, depth: int, batch: int = 1) -> Gemm:
    return Gemm(batch, rows, cols, depth, batch * rows * depth, batch * depth * cols)


def gpu(chip: str) -> Gpu:
    engine = load_target(chip).engines["gpu"]
    assert isinstance(engine, Gpu)
    return engine


def us(target: Target, workload: Workload) -> float:
    module = build(workload)
    run_passes(module, default_pipeline("soc"), PassContext(target=target))
    return simulate(module, target).latency_ps / 1e6


# ---------------------------------------------------------------- blocks on cores


def test_a_kernel_is_written_as_its_sizes() -> None:
    assert Kernel.parse("128x64x8@256") == Kernel(128, 64, 8, 256)
    for text in ("128x64x8", "128x64@256", "0x64x8@32", "axbxc@d"):
        with pytest.raises(ValueError, match="is no kernel"):
            Kernel.parse(text)


def test_the_busiest_core_decides() -> None:
    """Ten blocks on ten cores take as long as one; the eleventh starts another round on one core."""
    one = CORE.grid_cycles(TILE, product(64, 64, 64), PLAIN)
    assert CORE.grid_cycles(TILE, product(640, 64, 64), PLAIN) == one
    two = CORE.grid_cycles(TILE, product(704, 64, 64), PLAIN)
    assert two == CORE.grid_cycles(TILE, product(1280, 64, 64), PLAIN)
    assert two - one == 64 * 64 * 64 / 64  # the pipes' time of a block: the first loads and the results are shared


def test_what_a_core_holds_at_once() -> None:
    assert CORE.resident(TILE, 4) == 5  # 48 KiB of registers each
    assert dataclasses.replace(CORE, shared=9 * 1024).resident(TILE, 4) == 1  # 8 KiB of shared memory each
    assert dataclasses.replace(CORE, threads=256).resident(TILE, 4) == 2
    assert dataclasses.replace(CORE, blocks=3).resident(TILE, 4) == 3
    assert dataclasses.replace(CORE, registers=1024).resident(TILE, 4) == 1  # a library holds what fits


def test_resident_blocks_share_what_is_not_hidden() -> None:
    many, single = CORE, dataclasses.replace(CORE, blocks=1)
    grid = product(640 * 5, 64, 64)
    hidden = single.grid_cycles(TILE, grid, PLAIN) - many.grid_cycles(TILE, grid, PLAIN)
    assert hidden == 4 * (CORE.latency + 64 * 64 * 4 / CORE.l2_rate)


def test_few_warps_leave_schedulers_idle() -> None:
    thin = Kernel(64, 64, 8, 64)  # two warps
    alone = CORE.grid_cycles(thin, product(64, 64, 512), PLAIN)
    full = CORE.grid_cycles(TILE, product(64, 64, 512), PLAIN)
    assert alone - full == 64 * 64 * 512 / 64  # at half the rate
    assert CORE.grid_cycles(thin, product(1280, 64, 512), PLAIN) == pytest.approx(
        CORE.grid_cycles(TILE, product(1280, 64, 512), PLAIN)
    )


def test_operands_through_registers_take_turns_with_the_pipes() -> None:
    grid = product(64, 64, 80)
    taken = CORE.grid_cycles(TILE, grid, Data(64.0, 4, True)) - CORE.grid_cycles(TILE, grid, PLAIN)
    assert taken == pytest.approx(10 * (64 + 64) * 8 * 4 / 128)


def test_a_long_depth_is_split_over_idle_cores() -> None:
    deep, library = product(64, 64, 16384), (TILE,)
    assert best_cycles(CORE, library, deep, PLAIN, lambda cycles, _: cycles) < CORE.grid_cycles(TILE, deep, PLAIN) / 4
    whole = dataclasses.replace(PLAIN, split=False)  # a library that never splits
    assert best_cycles(CORE, library, deep, whole, lambda cycles, _: cycles) == CORE.grid_cycles(TILE, deep, PLAIN)
    two = product(64, 64, 16384, batch=2)
    assert best_cycles(CORE, library, two, PLAIN, lambda cycles, _: cycles) == CORE.grid_cycles(TILE, two, PLAIN)


def test_the_library_offers_the_kernel_that_fits_best() -> None:
    wide, tall = Kernel(64, 256, 8, 256), Kernel(256, 64, 8, 256)
    for rows, cols, best in ((256, 2560, wide), (2560, 256, wide), (64, 2560, wide), (2560, 64, tall)):
        grid = product(rows, cols, 64)
        found = best_cycles(CORE, (wide, tall), grid, PLAIN, lambda cycles, _: cycles)
        assert found <= CORE.grid_cycles(best, grid, PLAIN)
    assert Kernel(64, 64, 8, 64).issued_macs(product(65, 1, 10)) == 128 * 64 * 10


def test_only_some_libraries_split() -> None:
    """36 blocks of the largest tile fill neither chip: the V100's library splits the depth, the A100's does not."""
    deep = product(768, 768, 32768)

    def filled(chip: str) -> float:
        engine = gpu(chip)
        return deep.macs / engine.gemm_cycles(deep, "f32") / engine.peak_macs("f32")

    assert filled("v100") > 0.8 > filled("a100")


# ---------------------------------------------------------------- commands are parts of kernels


def test_parts_of_a_kernel_add_up_to_it() -> None:
    """However a loop cuts a product, its waves are counted once."""
    engine, op = gpu("a100"), matmul(2048, 1024, 1536)
    whole = engine.exec_ps("gpu.mat", [work(op)])
    sizes = ((2048, 1024), (1024, 1536)), (2048, 1536)
    for m, k, n in ((512, 128, 1536), (128, 1024, 128), (2048, 64, 256)):
        part = Work(op, ((m, k), (k, n)), (m, n), "f16", sizes)
        count = 2048 // m * 1024 // k * 1536 // n
        assert whole <= count * engine.exec_ps("gpu.mat", [part]) <= whole + count


@pytest.mark.parametrize("chip", ["a100", "l4", "m4"])
def test_waves_show_in_whole_programs(chip: str) -> None:
    """One block more than the cores hold at once costs another round, of the largest tile that the library has."""
    target = load_target(chip)
    times = [us(target, workloads.Gemm(n, 2048, 2048, "f32", weight=False)) for n in (512, 1024, 2048)]
    assert times[0] < times[1] < times[2] < 2.2 * times[1]


def test_a_block_expands_the_weights_that_it_multiplies() -> None:
    engine = gpu("m4")

    def command(rows: int) -> list[Work]:
        weight = tile.on_blocks("dequantize")(block((256, 256), "i8"), block((256, 1), "f16"), block=(1, 256), to="f16")
        expanded = work(weight)
        op = tile.Matmul(block((rows, 256)), weight.result)
        whole = dataclasses.replace(expanded, whole=(expanded.inputs, expanded.output))
        made = work(op)
        return [whole, dataclasses.replace(made, whole=(made.inputs, made.output))]

    few, many = (engine.exec_ps("gpu.mat", command(rows)) for rows in (64, 512))
    product_alone = engine.exec_ps("gpu.mat", [work(matmul(512, 256, 256))])
    expansion = few - engine.exec_ps("gpu.mat", [work(matmul(64, 256, 256))])
    assert many == pytest.approx(product_alone + 8 * expansion, rel=1e-6)


def expanded(rows: int, cast: str | None = None) -> tuple[Operation, Operation]:
    """What makes a weight [256, 4096] of its stored form, and the product of so many rows with it."""
    if cast:
        weight = tile.on_blocks("cast")(block((256, 4096), cast), to="f32")
        return weight, tile.Matmul(block((rows, 256), "f32"), weight.result)
    scale = block((256, 1), "f16")
    weight = tile.on_blocks("dequantize")(block((256, 4096), "i4"), scale, block=(1, 4096), to="f16")
    return weight, tile.Matmul(block((rows, 256)), weight.result)


def command_ps(engine: Gpu, ops: tuple[Operation, ...]) -> int:
    made = [work(op) for op in ops]
    return engine.exec_ps("gpu.mat", [dataclasses.replace(w, whole=(w.inputs, w.output)) for w in made])


def test_a_row_meets_expanded_weights_in_registers() -> None:
    """Of a product with one row only what is stored is read: its operations bound it, of which each weight takes an
    unpacking, a scale and a multiply-add. In f16 the same product is bound by reading two bytes a weight."""
    engine = gpu("m4")
    lanes = 10 * 128 * 1.398e9
    assert command_ps(engine, expanded(1)) == pytest.approx(3 * 256 * 4096 / lanes * 1e12 + 64 / 1.398e-3, rel=1e-3)
    plain = engine.exec_ps("gpu.mat", [work(matmul(1, 256, 4096))])
    assert plain == pytest.approx(2 * 256 * 4096 / (10 * 64 * 1.398e9) * 1e12 + 64 / 1.398e-3, rel=1e-3)


@pytest.mark.parametrize(("chip", "free"), [("m4", True), ("a100", False)])
def test_a_factor_in_half_beside_activations_in_single(chip: str, free: bool) -> None:
    engine = gpu(chip)
    alone = engine.exec_ps("gpu.mat", [work(matmul(512, 256, 4096, "f32"))])
    together = command_ps(engine, expanded(512, "f16"))
    assert (together == alone) == free and together >= alone


def test_gathering_rows_costs_as_much_however_it_is_cut() -> None:
    engine = gpu("m4")
    sizes = ((100000, 64), (1024,)), (1024, 64)

    def cut(rows: int) -> int:
        op = tile.on_blocks("gather")(block((100000, 64), "f16", "dram"), block((rows,), "i64"), axis=0)
        return engine.exec_ps("gpu.alu", [dataclasses.replace(work(op), whole=sizes)])

    assert cut(1024) <= 16 * cut(64) <= cut(1024) + 16


# ---------------------------------------------------------------- rows


def price(engine: Gpu, op: Operation) -> int:
    return engine.exec_ps(engine.unit_of(op), [work(op)])


def test_a_row_that_fits_a_warp_is_read_once() -> None:
    """PyTorch's softmax of 1024 columns keeps its exponentials; with one more column it does them twice."""
    engine = gpu("a100")
    short, long = (price(engine, elementwise("softmax", (4096, n), axis=1)) for n in (1024, 1025))
    assert long > 1.3 * short


def test_a_block_is_half_as_many_threads_as_a_row_has_vectors() -> None:
    """PyTorch's softmax of floats: 640 vectors of 16 B are 512 threads; smaller blocks keep more rows at work, which
    the L2 of an A100 no longer holds at 16384 columns: each of the four resident rows of a core is 64 KiB."""
    engine = gpu("a100")

    def threads(columns: int, item: int) -> int:
        return engine.rows.threads(Vector((("exp", 1),), 1, row=columns), item)

    assert [threads(n, 4) for n in (1025, 2048, 2560, 16384)] == [256, 256, 512, 512]
    assert [threads(n, 2) for n in (2048, 4096, 16384)] == [128, 256, 512]
    target, rows, columns = load_target("a100"), 131072, 16384
    tensors = us(target, Softmax(rows, columns, "f32")) * 1e-6 * target.memory.dram.sustained_bytes_per_s
    assert tensors / (rows * columns * 4) == pytest.approx(4, rel=0.03), "three times read, and written"


def test_what_is_left_of_a_row_is_loaded_by_elements() -> None:
    """Of 2560 floats 2048 are one vector for each of 512 threads, and 512 one element each; of 3072 twice as many are
    left, and of 4096 none: an element of 3072 columns takes PyTorch's softmax on an A100 a quarter longer."""
    rows = gpu("a100").rows

    def tail(columns: int, item: int) -> int:
        return rows.tail_loads(Vector((("exp", 1),), 1, row=columns), item)

    assert [tail(n, 4) for n in (1280, 1600, 2048, 2560, 3072, 4096)] == [1, 3, 0, 1, 2, 0]
    assert tail(4096 + 1, 2) == 1 and tail(4096, 2) == 0
    assert rows.tail_loads(Vector((("fma", 1),), 1, row=1600), 4) == 0, "norms have a thread for each vector"
    assert gpu("m4").rows.tail_loads(Vector((("exp", 1),), 1, row=1600), 4) == 0
    target = load_target("a100")
    per_element = [us(target, Softmax(65536, n, "f32")) / n for n in (3072, 4096)]
    assert 1.1 < per_element[0] / per_element[1] < 1.35


def test_a_block_finds_its_row_in_the_l1_of_its_core() -> None:
    """Four rows of 20 KiB are no more than the L1 of a V100 holds, though those of all cores exceed its L2."""
    rows, row = gpu("v100").rows, 5120 * 4
    assert rows.missed(4 * 80 * row, 80) == pytest.approx(2 * 80 / 128 - 1)
    assert rows.missed(4 * 80 * 2 * row, 80) == 1, "two and a half times what the L1 holds"
    assert rows.missed(2**20, 80) == 0
    without = rows.model_copy(update={"near": None})
    assert without.missed(4 * 80 * row, 80) == 1


def test_rows_are_read_again_from_memory_where_the_cache_is_small() -> None:
    """A layer norm moves two tensors on an L4, whose L2 holds the rows at work, and three on a V100, whose does not."""

    def tensors(chip: str) -> float:
        target = load_target(chip)
        seconds = us(target, LayerNorm(65536, 4096, "f32")) * 1e-6
        return seconds * target.memory.dram.sustained_bytes_per_s / (65536 * 4096 * 4)

    assert tensors("l4") == pytest.approx(2, rel=0.03)
    assert tensors("v100") == pytest.approx(3, rel=0.03)


# ---------------------------------------------------------------- power


def test_an_l4_is_limited_by_its_power_and_not_by_its_clock() -> None:
    l4 = load_target("l4")
    large = workloads.Gemm(8192, 8192, 8192, "f32", weight=False)
    limited, free = us(l4, large), us(l4.override("gpu.power.limit", "300 W"), large)
    joules = 8192**3 * 11.7e-12 + 3 * 8192**2 * 4 * 60e-12
    assert limited == pytest.approx(joules / (72 - 20) * 1e6, rel=0.01)
    assert free < limited / 2
    assert us(load_target("a100"), large) == us(load_target("a100").override("gpu.power.limit", "500 W"), large)


def test_a_limit_holds_only_after_a_while() -> None:
    """A kernel that is done by then runs at its clock; of a longer one, the part that is done by then."""
    l4 = load_target("l4")
    large = workloads.Gemm(4096, 4096, 4096, "f32", weight=False)
    limited, free = us(l4, large), us(l4.override("gpu.power.limit", "300 W"), large)

    def after(ms: float) -> float:
        return us(l4.override("gpu.power.grace", f"{ms} ms"), large)

    assert after(2 * free * 1e-3) == free < limited == after(0)
    half = free / 2
    assert after(half * 1e-3) == pytest.approx(half + limited / 2, rel=0.02)
    assert us(load_target("v100").override("gpu.power.grace", "1 ms"), large) == us(load_target("v100"), large)


@pytest.mark.parametrize(
    ("m", "n", "k"), [(1280, 1280, 16384), (960, 960, 16384), (1280, 3840, 65536), (1021, 509, 4093)]
)
def test_a_long_product_waits_for_no_memory_that_another_tiling_spares(m: int, n: int, k: int) -> None:
    module = build(workloads.Gemm(m, k, n, "f32", transposed=True, bias=True))
    target = load_target("l4")
    run_passes(module, default_pipeline("soc"), PassContext(target=target))
    (task,) = simulate(module, target).tasks
    assert task.breakdown["matrix"] >= 0.97 * (task.span_ps - target.engines["gpu"].launch_ps)


def test_a_limit_that_leaves_no_power_for_work_is_an_error() -> None:
    with pytest.raises(TargetError, match=r"gpu\.power\.limit: 20 W is no more than what is drawn at rest"):
        load_target("l4").override("gpu.power.limit", "20 W")


def test_a_limit_needs_the_energy_of_what_it_limits(tmp_path: Path) -> None:
    limit = '{ value = 10, unit = "W", source = "what if", confidence = "assumed" }'
    own = (Path(load_target.__code__.co_filename).parent / "socs" / "m1.toml").read_text()
    start, end = own.index("[gpu.energy]"), own.index("[cpu.energy]")
    (tmp_path / "soc.toml").write_text(f"{own[:start]}[gpu.power]\nlimit = {limit}\n{own[end:]}")
    with pytest.raises(TargetError, match=r"gpu\.power\.limit: needs the tables gpu\.energy and memory\.energy"):
        load_target(tmp_path / "soc.toml")


def test_bad_kernels_are_an_error_that_says_where() -> None:
    with pytest.raises(TargetError, match=r"gpu\.matrix: '128x64' is no kernel; expected rows x columns x depth"):
        load_target("a100").override("gpu.matrix.kernels.f16", "128x64")
    with pytest.raises(TargetError, match=r"kernels\.f16 is empty"):
        load_target("a100").override("gpu.matrix.kernels.f16", "")


# ---------------------------------------------------------------- whole programs


WORK: dict[str, Workload] = {
    "products": workloads.Gemm(300, 200, 500, "f16"),
    "batched": workloads.Gemm(100, 64, 130, "f32", batch=12, weight=False),
    "convolution": Conv(1, 32, 48, 28, 28, 3, 1, 1, "f16"),
    "softmax": Softmax(100, 3000, "f16"),
    "norm": LayerNorm(100, 3000, "f32"),
    "elementwise": Elementwise("gelu", (1000, 333), "f16"),
    "attention": Attention(1, 4, 4, 128, 128, 64, "f16"),
}


@pytest.mark.parametrize("chip", ["a100", "v100", "l4", "h100", "mi210", "m4"])
@pytest.mark.parametrize("name", list(WORK))
def test_roofline_bounds_every_task(chip: str, name: str) -> None:
    target = load_target(chip)
    module = build(WORK[name])
    run_passes(module, default_pipeline("soc"), PassContext(target=target, engines=("gpu",)))
    exact, again, least = (simulate(module, target, f) for f in ("cycle", "cycle", "roofline"))
    assert exact.latency_ps == again.latency_ps
    for a, b in zip(exact.tasks, least.tasks, strict=True):
        assert b.span_ps <= a.span_ps, a.label


def test_faster_chips_are_faster() -> None:
    make: Callable[[str], float] = lambda chip: us(load_target(chip), workloads.Gemm(4096, 4096, 4096, "f16"))  # noqa: E731
    times = [make(chip) for chip in ("h100", "a100", "v100", "l4", "m4")]
    assert times == sorted(times)
