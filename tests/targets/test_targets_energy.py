"""The energy parameters of the targets: complete, in units that make sense, and near what was published."""

from __future__ import annotations

from pathlib import Path

import pytest
from target_blocks import conv, elementwise, matmul, work
from tilewright.targets import TargetError, list_targets, load_target
from tilewright.targets.engines import PricedEngine

KNOWN = [name for name in list_targets() if load_target(name).memory.energy is not None]
DTYPES = ("f16", "bf16", "f32", "f64", "i8", "i16", "i32", "i64")
# (chip, engine, dtype, published W, at FLOP/s, of how many of our cores, source)
FULL_LOAD = [
    ("m4", "ane", "f16", 4.57, 18.77e12, 1.0, "maderix part 4"),
    ("m4", "gpu", "f16", 18.2, 2.82e12, 8 / 10, "ANEForge bench, M4 8-core"),
    ("m1", "gpu", "f16", 10.4, 1.93e12, 7 / 8, "ANEForge bench, M1 7-core"),
    ("m4", "cpu", "f32", 9.15, 1.54e12, 1.0, "ANEForge bench, M4"),
    ("m1", "cpu", "f32", 7.2, 1.30e12, 1.0, "ANEForge bench, M1"),
    ("m6", "ane", "f16", 0.73e-12 * 20.6e12, 2 * 20.6e12, 1.0, "751K power.md, two engines"),
    ("m5", "gpu", "f32", 18.2, 3.76e12, 1.0, "michaelstinkerings.org"),
    ("tpu_v3", "tpu", "bf16", 262 / 2 - 1.5, 61.6e12, 1.0, "ISCA 2023, the most that was measured, of two cores"),
    ("tpu_v6e", "tpu", "bf16", 175 / 69 * 459 / 3, 918e12, 1.0, "ISCA 2021 of TPUv4i, and arXiv 2502.01671"),
]


BOARDS = ("a100", "v100", "l4", "h100", "mi210")


def test_m1_m4_and_the_boards_are_known() -> None:
    assert {"m1", "m4", *BOARDS} <= set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_every_energy_parameter_says_where_it_comes_from(name: str) -> None:
    found = {path: p for path, p in load_target(name).parameters() if ".energy." in path}
    assert {path.partition(".")[0] for path in found} == {"memory", *load_target(name).engines}
    for path, p in found.items():
        assert len(p.source) > 8 and p.confidence in ("A", "B", "C", "assumed"), path
        assert float(p) > 0, path  # type: ignore[arg-type]
        assert p.unit in (("cores",) if path.endswith("static_cores") else ("pJ/MAC", "pJ/op", "pJ/B", "uJ", "W")), path


@pytest.mark.parametrize("name", KNOWN)
def test_every_dtype_that_is_multiplied_has_an_energy(name: str) -> None:
    for engine in load_target(name).engines.values():
        assert engine.energy is not None
        multiplied = {dtype for dtype in DTYPES if engine.mac_rate(dtype)}
        assert multiplied <= set(engine.energy.mac), engine.name


@pytest.mark.parametrize(("chip", "name", "dtype", "watts", "flops", "share", "source"), FULL_LOAD)
def test_power_at_full_load(
    chip: str, name: str, dtype: str, watts: float, flops: float, share: float, source: str
) -> None:
    """The split into marginal and static gives the measured sum again."""
    energy = load_target(chip).engines[name].energy
    assert energy is not None
    power = float(energy.mac[dtype]) * flops / 2 + float(energy.static) * share
    assert power == pytest.approx(watts, rel=0.02), source


@pytest.mark.parametrize("chip", BOARDS)
def test_a_board_in_large_products_draws_what_it_is_made_for(chip: str) -> None:
    """Half-precision products at the rate that the model sustains, within an eighth below the board's limit."""
    target, n = load_target(chip), 8192
    engine, memory = target.engines["gpu"], target.memory.energy
    assert engine.energy is not None and memory is not None
    seconds = engine.exec_ps("gpu.mat", [work(matmul(n, n, n))]) / 1e12
    joules = n**3 * float(engine.energy.mac["f16"]) + 3 * n**2 * 2 * float(memory.dram)
    power = joules / seconds + float(engine.energy.static) + float(memory.static)
    limit = float(target.parameter("gpu.power.limit"))  # type: ignore[arg-type]
    assert 7 / 8 * limit <= power <= limit * 1.001


@pytest.mark.parametrize("chip", BOARDS)
def test_a_board_that_streams_stays_below_its_limit(chip: str) -> None:
    target = load_target(chip)
    engine, memory = target.engines["gpu"], target.memory.energy
    assert engine.energy is not None and memory is not None
    moved = target.memory.dram.sustained_bytes_per_s * (float(memory.dram) + float(memory.slc))
    power = moved + float(engine.energy.static) + float(memory.static)
    assert 0.3 <= power / float(target.parameter("gpu.power.limit")) <= 1.0  # type: ignore[arg-type]


def test_the_neural_engine_at_its_own_peak_draws_what_m4_was_measured_at() -> None:
    """4.57 W, 0.49 pJ/MAC, at the rate that the model sustains."""
    engine = load_target("m4").engines["ane"]
    assert engine.energy is not None
    seconds = engine.exec_ps("ane.mac", [work(op := conv(512, 512, (64, 64), (3, 3)))]) / 1e12
    joules = float(engine.energy.mac["f16"]) * op.macs() + float(engine.energy.static) * seconds  # type: ignore[attr-defined]
    assert joules / seconds == pytest.approx(4.57, rel=0.05)
    assert joules / op.macs() == pytest.approx(0.49e-12, rel=0.05)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["ane", "gpu", "cpu"])
def test_static_power_grows_with_the_cores(name: str) -> None:
    m4 = load_target("m4")
    cores = m4.engines[name].cores

    def watts(n: int) -> float:
        engine = m4.override(f"{name}.cores", str(n)).engines[name]
        assert engine.energy is not None
        return engine.energy.static_w(engine.cores)

    assert watts(cores) == pytest.approx(float(m4.engines[name].energy.static))  # type: ignore[union-attr]
    assert watts(2 * cores) == pytest.approx(2 * watts(cores)) == pytest.approx(4 * watts(cores // 2))
    assert load_target("m4max").engines["gpu"].energy.static_w(40) == pytest.approx(4 * 5.7)  # type: ignore[union-attr]


def test_a_tpu_v3_stays_within_its_thermal_design_power() -> None:
    """450 W a chip (ISCA 2021, table 1), with both cores at their peak and HBM at its."""
    target = load_target("tpu_v3")
    core, memory = target.engines["tpu"], target.memory
    assert core.energy is not None and memory.energy is not None
    power = float(core.energy.mac["bf16"]) * core.mac_rate("bf16") + float(core.energy.static)
    chip = 2 * power + memory.dram_bytes_per_s * float(memory.energy.dram) + float(memory.energy.static)
    assert 262 < chip < 450


@pytest.mark.parametrize(("name", "published"), [("m1", 50), ("m4", 46)])
def test_a_byte_from_dram_costs_what_was_measured_in_all(name: str, published: float) -> None:
    energy = load_target(name).memory.energy
    assert energy is not None
    assert energy.slc.pj + energy.dram.pj == pytest.approx(published)


@pytest.mark.parametrize("name", ["ane", "gpu", "cpu"])
def test_vector_operations(name: str) -> None:
    engine: PricedEngine = load_target("m4").engines[name]
    n = 64 * 64

    def operations(op: str, **attributes: object) -> float:
        return engine.vector_operations(work(elementwise(op, (64, 64), **attributes)))

    assert operations("relu") == n
    assert operations("cast", to="f32") == n, "what is only moved is read and written"
    assert operations("exp") == n * max(engine.cost["exp"], 1)
    assert operations("softmax", axis=1) > 3 * n
    assert engine.vector_operations(work(matmul(64, 64, 64))) == 0


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("path", "text", "base"),
    [
        ("ane.energy.mac.f16", "0.5pJ/MAC", 0.5e-12),
        ("ane.energy.mac.f16", "500 fJ/MAC", 0.5e-12),
        ("gpu.energy.vector", "1e-12", 1e-12),
        ("memory.energy.dram", "0.05 nJ/B", 50e-12),
        ("ane.energy.launch", "0.2mJ", 2e-4),
        ("cpu.energy.static", "1500mW", 1.5),
    ],
)
def test_override(path: str, text: str, base: float) -> None:
    assert float(load_target("m4").override(path, text).parameter(path)) == pytest.approx(base)  # type: ignore[arg-type]


def test_a_whole_joule_a_mac_makes_no_sense() -> None:
    with pytest.raises(TargetError, match="makes no sense as a quantity of energy"):
        load_target("m4").override("ane.energy.mac.f16", "1 J/MAC")


def write(tmp_path: Path, energy: str) -> Path:
    path = tmp_path / "soc.toml"
    path.write_text(f'name = "x"\ntitle = "x"\ninherits = "m4"\n{energy}')
    return path


def test_what_is_inherited_can_be_changed_alone(tmp_path: Path) -> None:
    what = '{ value = 20, unit = "pJ/B", source = "what if", confidence = "assumed" }'
    x, m4 = load_target(write(tmp_path, f"[memory.energy]\ndram = {what}\n")).memory.energy, load_target("m4").memory
    assert x is not None and m4.energy is not None
    assert (x.dram.pj, x.slc, x.static) == (pytest.approx(20), m4.energy.slc, m4.energy.static)


def test_a_wrong_key_and_a_missing_one(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"ane\.energy\.statics: no such key.*static"):
        load_target(write(tmp_path, "[ane.energy]\nstatics = { value = 1 }\n"))
    m1 = (Path(load_target.__code__.co_filename).parent / "socs" / "m1.toml").read_text()
    start = m1.index("static =", m1.index("[ane.energy]"))
    (tmp_path / "own.toml").write_text(m1[:start] + m1[m1.index("\n", start) :])
    with pytest.raises(TargetError, match=r'ane\.energy\.static: is missing; expected \{ value = \.\.\., unit = "W"'):
        load_target(tmp_path / "own.toml")
