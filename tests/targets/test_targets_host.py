"""A measured machine becomes a target file that is complete, read back, and priced as its figures say."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tilewright.compiler.cli import app
from tilewright.compiler.validate.price import Job, Pricer
from tilewright.compiler.validate.provide import Networks
from tilewright.compiler.validate.runner import Options, validate
from tilewright.targets import load_target
from tilewright.targets.host import HostError, Measured, Probe, describe, measure
from tilewright.targets.host import Options as MeasureOptions
from tilewright.targets.host.law import fit
from tilewright.targets.host.machine import Machine, read_machine, register_bytes
from tilewright.targets.host.nearness import Nearness, crossing_s
from tilewright.targets.host.record import Kernel
from tilewright.targets.host.timing import Time, least, least_each
from tilewright.targets.validation import find_tables
from tilewright.targets.validation.workloads import Conv, Elementwise, Gemm, LayerNorm, Softmax
from typer.testing import CliRunner

MACHINE = Machine("Test CPU", 2, 32, 64, {1: 32 << 10, 2: 1 << 20, 3: 16 << 20})
FIGURES = {
    "clock": 4e9, "fma_f32": 64e9, "fma_f64": 32e9, "read_l1": 256e9, "write_l1": 128e9, "read_l2": 200e9,
    "read_l3": 100e9, "latency_cache": 12e-9, "latency_dram": 112e-9, "dram_1": 20e9, "dram_all": 35e9,
    "call": 1e-6, "task": 2e-6, "barrier": 1e-6, "vector": 15e9, "vector_serial": 0.5,
}  # fmt: skip


def probe(value: float) -> Probe:
    return Probe(value, "made up for a test")


def measured(**changes: float) -> Measured:
    kernel = Kernel(probe(48e9), probe(1e-10), probe(0.0), probe(1e-6))
    names = ("exp", "sqrt", "div", "transpose", "gelu", "softmax", "layer_norm")
    return Measured(
        MACHINE,
        "2026-01-01",
        2,
        {n: probe(v) for n, v in {**FIGURES, **changes}.items()},
        {n: (probe(2e-10), probe(1e-9 if n == "softmax" else 0.0)) for n in names}
        | {"layer_norm": (probe(4e-10), probe(1e-9))},
        {
            **dict.fromkeys(("matmul", "pointwise", "conv", "grouped"), kernel),
            "blocked": kernel._replace(start=probe(3e-5)),
        },
        {"exp": probe(0.1), "gelu": probe(0.9), "layer_norm": probe(0.001)},
        {"layer_norm": (probe(4096.0), probe(0.6))},
    )


def with_kernel(tmp_path: Path, name: str, **fields: Probe | Kernel) -> Path:
    """A file of the machine with one kernel changed."""
    base = measured()
    path = tmp_path / f"{name}.toml"
    path.write_text(describe(replace(base, kernels={**base.kernels, name: base.kernels[name]._replace(**fields)})))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "host.toml"
    path.write_text(describe(measured()))
    return path


def price(file: Path, workload: object, cores: int = 1) -> float:
    job = Job("host", (), (("cpu.cores", str(cores)),), workload, str(file), True)  # type: ignore[arg-type]
    return Pricer(Networks({})).price(job).model


def test_the_file_is_complete_and_says_where_each_figure_is_from(file):
    target = load_target(file)
    assert list(target.engines) == ["cpu"]
    for path, parameter in target.parameters():
        said = "measured by tilewright targets measure-host on Test CPU, 2026-01-01" in parameter.source
        assert parameter.confidence == ("B" if said else "assumed") and parameter.unit, path
    assumed = {path for path, parameter in target.parameters() if parameter.confidence == "assumed"}
    assert {"memory.efficiency", "cpu.launch", "cpu.threads.grain"} < assumed and len(assumed) == 11


def test_the_figures_come_back(file):
    target, cpu = load_target(file), load_target(file).engines["cpu"]
    assert cpu.clock_hz == pytest.approx(4e9)
    assert cpu.mac_rate("f32") == pytest.approx(2 * 64e9, rel=1e-3)
    assert cpu.mac_rate("f64") == pytest.approx(64e9, rel=1e-3)
    assert cpu.dram_bytes_per_s == pytest.approx(40e9, rel=1e-3)  # both cores ask for more than memory gives
    assert target.memory.dram_bytes_per_s == pytest.approx(35e9)
    assert target.override("cpu.cores", "1").engines["cpu"].dram_bytes_per_s == pytest.approx(20e9, rel=1e-3)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: Gemm(64 * n, 256, 256, "f32"),
        lambda n: Gemm(1, 512, 512 * n, "f32", transposed=True),
        lambda n: Conv(1, 32 * n, 64, 28, 28, 3, 1, 1, "f32"),
        lambda n: Elementwise("gelu", (256 * n, 512), "f32"),
        lambda n: Softmax(256 * n, 256, "f32"),
        lambda n: LayerNorm(256 * n, 256, "f32"),
    ],
)
def test_more_work_takes_longer(file, make, cores):
    times = [price(file, make(n), cores) for n in (1, 2, 4)]
    assert times == sorted(times) and times[2] > 1.5 * times[0]


def test_a_second_core_helps_where_there_is_work_for_it(file):
    large, small = Gemm(512, 512, 512, "f32"), Elementwise("gelu", (16, 64), "f32")
    assert price(file, large, 2) < 0.6 * price(file, large, 1)
    assert price(file, small, 2) > 0.9 * price(file, small, 1)  # no second thread; memory answers both cores


def test_one_core_draws_less_from_memory_than_two(file):
    stream = Elementwise("add", (4096, 1024), "f32", 2)
    moved = 3 * 4096 * 1024 * 4
    assert price(file, stream, 1) == pytest.approx(moved / 20e9, rel=0.1)
    assert price(file, stream, 2) == pytest.approx(moved / 35e9, rel=0.1)


def test_memory_hides_behind_a_function_unless_they_take_turns(file):
    moved = 2 * 1024 * 1024 * 4 / 20e9  # as long as the function computes: 0.2 ns an element
    overlapped, in_turns = (price(file, Elementwise(op, (1024, 1024), "f32", 1)) for op in ("exp", "gelu"))
    assert overlapped == pytest.approx(moved, rel=0.1)
    assert in_turns == pytest.approx(moved + 1024 * 1024 * 2e-10, rel=0.1)


def test_packing_that_threads_do_not_share(tmp_path):
    """A product of few rows by many weights: each thread packs the weights for its rows."""
    packs = Kernel(probe(48e9), probe(1e-8), probe(0.0), probe(0.0))
    path = with_kernel(tmp_path, "matmul", **packs._replace(together=packs)._asdict())
    few = Gemm(8, 512, 512, "f32", transposed=True)
    assert price(path, few, 2) > 0.9 * price(path, few, 1) > 0.9 * 512 * 512 * 1e-8


def test_several_threads_have_a_start_of_their_own(tmp_path):
    together = measured().kernels["conv"]._replace(start=probe(2e-4))
    path = with_kernel(tmp_path, "conv", together=together)
    small = Conv(1, 16, 16, 40, 40, 3, 1, 1, "f32")
    assert price(path, small, 1) < 2e-4 < price(path, small, 2) < 3e-4


def test_blocks_of_channels_that_are_not_whole_cost_more(tmp_path):
    """8 lanes: of 12 channels, 4 lie in a block that is half full; an image of 4 channels is not laid out in blocks."""
    path = with_kernel(tmp_path, "conv", ragged=probe(1e-9))

    def seconds(inner: int, outer: int) -> float:
        return price(path, Conv(1, inner, outer, 80, 80, 3, 1, 1, "f32"))

    assert seconds(12, 16) - seconds(16, 16) == pytest.approx(4 * 80 * 80 * 1e-9, rel=0.25)
    assert seconds(12, 16) > seconds(16, 16) > seconds(4, 16)


@pytest.mark.parametrize("shape", [(), (1,), (3, 1)])
def test_what_is_too_small_to_cut_has_a_price(file, shape):
    assert price(file, Elementwise("exp", shape, "f32", 1)) == pytest.approx(2e-6, rel=0.5)  # a call


def test_long_rows_wait_for_memory(file):
    """Nothing shows of rows of 4 KiB; of rows of 32 KiB, half of the time that memory takes beside computing."""
    short, long = (price(file, LayerNorm(2**20 // length, length, "f32")) for length in (1024, 8192))
    computing = moved = 2**20 * 4e-10  # at 20 GB/s
    assert short == pytest.approx(computing, rel=0.2)
    assert long == pytest.approx(computing + moved / 2, rel=0.1)  # 0.6 of 7/8: two pieces


def test_one_row_draws_its_matrix_at_its_own_rate(file):
    row = Gemm(1, 2048, 2048, "f32", transposed=True)
    assert price(file, row, 1) == pytest.approx(4 * 2048 * 2048 / 15e9, rel=0.15)
    assert price(file, row, 2) == pytest.approx(0.75 * 4 * 2048 * 2048 / 15e9, rel=0.15)


def test_convolutions_take_the_kernel_that_pytorch_takes(file):
    """Small images, and 1 x 1 on one thread without stride, are matrix products: no start of 30 us."""

    def least_us(side: int, stride: int, cores: int) -> float:
        return 1e6 * price(file, Conv(1, 16, 16, side, side, 1, stride, 0, "f32"), cores)

    assert least_us(40, 1, 1) < 30 < least_us(40, 1, 2)
    assert least_us(40, 2, 1) > 30
    assert least_us(32, 2, 1) < 30 and least_us(32, 1, 2) < 30  # 16,384 elements: below the limit of 20,480


def test_a_restless_machine_is_told():
    quiet = measured()
    loud = replace(quiet, probes={**quiet.probes, "dram_all": Probe(1e9, "made up", 2.5)})
    assert quiet.restless() == [] and loud.restless() == ["dram_all"]


def test_a_machine_that_says_nothing_of_its_caches(tmp_path):
    with pytest.raises(HostError, match="level 1 cache"):
        read_machine(tmp_path / "cpuinfo", tmp_path)


def test_more_threads_than_cores_are_refused():
    with pytest.raises(HostError, match="threads were asked for"):
        measure(MeasureOptions(10_000))


@pytest.mark.parametrize(("flags", "width"), [({"sse2"}, 16), ({"avx2", "fma"}, 32), ({"avx2", "avx512f"}, 64)])
def test_register_width(flags, width):
    assert register_bytes(flags) == width


@pytest.mark.parametrize("costs", [[3e-6, 2e-9, 5e-10], [0.0, 2e-9, 1e-9]])
def test_a_law_is_found_from_sums_of_its_parts(costs):
    parts = [[1, n, m] for n, m in ((100, 7), (5000, 20), (20_000, 9000), (300, 40_000), (7, 1))]
    seconds = [sum(c * p for c, p in zip(costs, row, strict=True)) for row in parts]
    assert fit(parts, seconds, needed=[1]) == pytest.approx(costs, rel=1e-6, abs=1e-15)


def test_a_law_has_no_cost_below_zero():
    """What shrinks as a part grows is not explained by that part."""
    start, each = fit([[1, 1], [1, 2], [1, 3]], [3.0, 2.9, 2.8])
    assert each == 0 and 2.8 < start < 3
    with pytest.raises(ValueError, match="no costs above zero"):
        fit([[1, 1], [1, 2], [1, 3]], [3.0, 2.0, 1.0], needed=[0, 1])


def test_cores_that_have_parted_are_waited_for(monkeypatch):
    monkeypatch.setattr("tilewright.targets.host.nearness.PAUSE_S", 0.001)
    crossings = iter([20e-9, 21e-9, 100e-9, 95e-9, 22e-9])
    cores = Nearness(lambda: next(crossings), patience_s=1.0)
    assert [cores.wait() for _ in range(3)] == [True, True, True] and next(crossings, None) is None
    assert cores.patience_s == pytest.approx(0.998)


def test_patience_ends():
    cores = Nearness(iter([20e-9, 100e-9]).__next__, patience_s=0.0)
    assert cores.wait() and not cores.wait()


def test_cores_that_share_no_cache_are_not_apart():
    """On a machine whose cores are never nearer, there is nothing to wait for."""
    cores = Nearness(lambda: 100e-9)
    cores.seek(10e-9, longest_s=0.0)
    assert not cores.apart()


def test_samples_of_cores_that_lie_apart_are_dropped_or_told(monkeypatch):
    looks = iter([False, True, False, False])  # near, then parted: a slice that does not count; near before and after
    cores = Nearness(lambda: 0.0)
    monkeypatch.setattr(cores, "apart", lambda: next(looks))
    monkeypatch.setattr("tilewright.targets.host.timing.nearness", lambda threads: cores)
    x = torch.rand(16)
    took = least([lambda: torch.relu(x)], 2, budget_s=0.0, rounds=1)
    assert next(looks, None) is None and not took.apart and cores.patience_s < 180
    monkeypatch.setattr(cores, "apart", lambda: True)
    cores.patience_s = 0.0
    assert least([lambda: torch.relu(x)], 2, budget_s=0.0, rounds=1).apart


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_line_of_another_core_takes_longer_than_one_of_its_own():
    cores = sorted(os.sched_getaffinity(0))[:2]
    assert 1e-9 < crossing_s(cores) < 1e-5
    assert os.sched_getaffinity(0) >= set(cores)


def test_what_runs_before_a_call_is_not_timed():
    x, y = torch.rand(16), torch.rand(768, 768)
    ran = []
    after = least([lambda: torch.relu(x)], rounds=5, before=lambda: ran.append(y @ y))
    assert len(ran) >= 5 and after.seconds < 0.1 * least([lambda: y @ y]).seconds


def test_each_call_has_its_own_time():
    one, four = (torch.rand(n, 256, 256) for n in (1, 4))
    short, long = least_each([lambda: one @ one, lambda: four @ four], budget_s=0.1)
    assert short.seconds < 0.6 * long.seconds


def test_the_least_time_is_that_of_the_call():
    one, four = (torch.rand(n, 256, 256) for n in (1, 4))
    assert least([lambda: one @ one]).seconds < 0.6 * least([lambda: four @ four]).seconds


def test_validate_host_measures_and_prices(file):
    table = find_tables(["host/elementwise"])[0]
    few = replace(table, workloads=table.workloads[:2], target_file=file, budget_s=0.02, threads=(1,))  # type: ignore[call-arg]
    report = validate([few], Options(rows=True)).tables[0]
    assert report.target == "host" and report.rows == 2 and not report.unpriced
    assert all(c.measured > 1e-6 and c.predicted and c.predicted > 1e-6 for c in report.cases or ())


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_rows_of_cores_that_lay_apart_are_marked(file, monkeypatch):
    timing = "tilewright.targets.host.timing"
    monkeypatch.setattr("tilewright.targets.host.nearness.nearness", lambda threads: Nearness(lambda: 0.0))
    monkeypatch.setattr(f"{timing}.least", lambda *calls, **options: Time(1e-3, 0.0, 5))
    monkeypatch.setattr(f"{timing}.undisturbed", lambda *calls, **options: Time(6e-4, 0.0, 5, apart=True))
    table = find_tables(["host/elementwise"])[0]
    one, two = replace(table, workloads=table.workloads[:1], target_file=file).find_cases()  # type: ignore[call-arg]
    assert not one.fitted and "lay apart" in two.fitted


def test_host_tables_run_only_where_they_are_named():
    assert not any(t.name.startswith("host/") for t in find_tables([]))
    assert len(find_tables(["host"])) == 6


@pytest.mark.slow
def test_this_machine_is_predicted(tmp_path):
    """The bar: MAPE of at most 20 % on one thread and on two, in every family. Needs a machine without other work."""
    file = tmp_path / "host.toml"
    assert CliRunner().invoke(app, ["targets", "measure-host", "-o", str(file)]).exit_code == 0
    tables = [replace(t, target_file=file) for t in find_tables(["host"])]  # type: ignore[call-arg]
    for table in validate(tables, Options()).tables:
        assert table.mape is not None and table.mape <= 20, table.name
        for part in table.parts:
            assert part.mape is not None and part.mape <= 20, (table.name, part.name)
