"""Published peaks come out of the parameters: within 9 %, as the sources themselves agree."""

from __future__ import annotations

import pytest
from tilewright.targets import load_target

# (chip, what, published, unit of the published figure, source)
NEURAL = [
    ("m1", "f16", 11e12, "Apple, 11 TOPS"),
    ("m1", "f16", 12.0e12, "Bryngelson, measured slope"),
    ("a14", "f16", 11e12, "Apple, 11 TOPS"),
    ("a15", "f16", 15.8e12, "Apple, 15.8 TOPS"),
    ("m2", "f16", 15.8e12, "Apple, 15.8 TOPS"),
    ("a16", "f16", 17e12, "Apple, 17 TOPS"),
    ("a17pro", "i8", 35e12, "Apple, 35 TOPS, int8"),
    ("m4", "i8", 38e12, "Apple, 38 TOPS, int8"),
    ("m4", "f16", 18.77e12, "maderix part 4, measured"),
    ("m1max", "f16", 11e12, "Apple, 11 TOPS"),
    ("m3", "f16", 18e12, "Apple, 18 TOPS"),
    ("m6", "f16", 2 * 20.6e12, "751K compute_array.md, measured on one of two engines"),
]
GPU = [
    ("m1", 2617e9, "philipturner/metal-benchmarks"),
    ("m4", 3580e9, "philipturner/metal-flash-attention"),
    ("m2", 3579e9, "philipturner/metal-benchmarks"),
    ("m2pro", 6800e9, "philipturner/metal-benchmarks"),
    ("m2max", 13600e9, "philipturner/metal-benchmarks"),
    ("m1pro", 5308e9, "philipturner/metal-benchmarks"),
    ("m1max", 10617e9, "philipturner/metal-benchmarks"),
    ("m1ultra", 21233e9, "philipturner/metal-benchmarks"),
    ("m5", 3760e9, "michaelstinkerings.org, measured"),
    ("a100", 19.5e12, "NVIDIA, A100 datasheet"),
    ("v100", 14e12, "NVIDIA, V100 datasheet, PCIe"),
    ("l4", 30.3e12, "NVIDIA, L4 datasheet"),
    ("h100", 67e12, "NVIDIA, H100 datasheet, SXM"),
    ("mi210", 22.6e12, "AMD, MI210 datasheet, vector"),
]
TENSOR_CORES = [
    ("a100", "f16", 312e12, "NVIDIA, A100 datasheet"),
    ("a100", "i8", 624e12, "NVIDIA, A100 datasheet"),
    ("v100", "f16", 112e12, "NVIDIA, V100 datasheet, PCIe"),
    ("l4", "f16", 121e12, "NVIDIA, L4 datasheet, without sparsity"),
    ("h100", "f16", 989e12, "NVIDIA, H100 datasheet, without sparsity"),
    ("mi210", "f16", 181e12, "AMD, MI210 datasheet"),
    ("mi210", "f64", 45.3e12, "AMD, MI210 datasheet, matrix"),
    ("m5max", "f16", 70e12, "tzakharko, estimate from A19"),
]
GEMM_ON_GPU = [("m4", "f32", 2900e9, "arXiv 2502.05317: MPS, measured peak")]
MATRIX_UNIT = [
    ("m1", "f32", 1475e9, "corsix/amx, one cluster"),
    ("m1", "f16", 1459.7e9, "corsix/amx, f16 into f32"),
    ("m1", "f64", 369.1e9, "corsix/amx"),
    ("m1max", "f32", 2956.7e9, "corsix/amx, a thread in each cluster"),
    ("m1max", "f64", 738.1e9, "corsix/amx, a thread in each cluster"),
    ("m4", "f32", 2009e9, "arXiv 2409.18779"),
    ("m4", "f64", 503e9, "arXiv 2409.18779"),
]
NEON_CORE = [("m4", "f32", 113e9, "arXiv 2409.18779"), ("m4", "f64", 56e9, "arXiv 2409.18779")]
DRAM = [
    ("m1", 4266e6, 128, 68.3e9),
    ("m4", 7467e6, 128, 119.5e9),
    ("m1ultra", 6400e6, 1024, 819.2e9),
    ("m3pro", 6400e6, 192, 153.6e9),
    ("m5max", 9600e6, 512, 614e9),
    ("m6", 10656e6, 128, 170.5e9),
]
TOLERANCE = 0.091


@pytest.mark.parametrize(("chip", "dtype", "published", "source"), NEURAL)
def test_neural_engine_peak(chip: str, dtype: str, published: float, source: str) -> None:
    engine = load_target(chip).engines["ane"]
    assert 2 * engine.peak_macs(dtype) * engine.clock_hz == pytest.approx(published, rel=TOLERANCE), source


@pytest.mark.parametrize(("chip", "published", "source"), GPU)
def test_gpu_peak(chip: str, published: float, source: str) -> None:
    engine = load_target(chip).engines["gpu"]
    assert 2 * engine.cores * engine.lanes * engine.clock_hz == pytest.approx(published, rel=TOLERANCE), source  # type: ignore[attr-defined]


@pytest.mark.parametrize(("chip", "dtype", "published", "source"), TENSOR_CORES)
def test_tensor_core_peak(chip: str, dtype: str, published: float, source: str) -> None:
    engine = load_target(chip).engines["gpu"]
    assert 2 * engine.peak_macs(dtype) * engine.clock_hz == pytest.approx(published, rel=TOLERANCE), source


@pytest.mark.parametrize(("chip", "dtype", "published", "source"), GEMM_ON_GPU)
def test_gpu_matrix_products(chip: str, dtype: str, published: float, source: str) -> None:
    engine = load_target(chip).engines["gpu"]
    assert 2 * engine.peak_macs(dtype) * engine.clock_hz == pytest.approx(published, rel=TOLERANCE), source


@pytest.mark.parametrize(("chip", "dtype", "published", "source"), MATRIX_UNIT)
def test_cpu_matrix_unit(chip: str, dtype: str, published: float, source: str) -> None:
    engine = load_target(chip).engines["cpu"]
    assert 2 * engine.rates[dtype] * engine.clock_hz == pytest.approx(published, rel=TOLERANCE), source  # type: ignore[attr-defined]


@pytest.mark.parametrize(("chip", "dtype", "published", "source"), NEON_CORE)
def test_cpu_simd(chip: str, dtype: str, published: float, source: str) -> None:
    engine = load_target(chip).engines["cpu"]
    core = engine.simd_macs(dtype) / engine.cores  # type: ignore[attr-defined]
    assert 2 * core * engine.clock_hz == pytest.approx(published, rel=TOLERANCE), source


@pytest.mark.parametrize(("chip", "transfers", "bits", "published"), DRAM)
def test_memory_bandwidth(chip: str, transfers: float, bits: int, published: float) -> None:
    memory = load_target(chip).memory
    assert memory.dram_bytes_per_s == pytest.approx(published, rel=0.01)
    assert memory.dram_bytes_per_s == pytest.approx(transfers * bits / 8, rel=0.01)


def test_m4_streams_reach_what_was_measured() -> None:
    assert load_target("m4").memory.dram.sustained_bytes_per_s == pytest.approx(101.5e9, rel=0.02)  # 100 and 103 GB/s
