"""Target files: what a good one gives, and what a wrong one says."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from tilewright.targets import Target, TargetError, list_targets, load_target
from tilewright.targets.description import SOCS
from tilewright.targets.parameter import Names

M1 = (SOCS / "m1.toml").read_text()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "soc.toml"
    path.write_text(text)
    return path


def error_of(path: Path | str) -> str:
    with pytest.raises(TargetError) as caught:
        load_target(path)
    return str(caught.value)


@pytest.mark.parametrize("name", list_targets())
def test_every_parameter_has_unit_source_and_confidence(name: str) -> None:
    target = load_target(name)
    parameters = dict(target.parameters())
    assert len(parameters) > 34 * len(target.engines)
    for path, p in parameters.items():
        assert p.unit and len(p.source) >= 3, path
        assert p.confidence in ("A", "B", "C", "assumed"), path
        if p.confidence == "assumed":
            assert len(p.source) > 5, f"{path} is assumed without a reason"


def test_m1_and_m4_have_the_three_engines_on_one_memory() -> None:
    for name in ("m1", "m4"):
        target = load_target(name)
        assert list(target.engines) == ["ane", "gpu", "cpu"]
        assert set(target.memory.port_bytes_per_s) == {"ane", "gpu", "cpu"}
        for engine in target.engines.values():
            numbers = (engine.launch_ps, engine.task_ps, engine.loads.bytes_per_s, engine.input_space.bytes)
            assert all(isinstance(n, int) and n > 0 for n in numbers)
    memory = load_target("m1").memory
    assert memory.dram_bytes_per_s == 68_300_000_000
    assert memory.slc_bytes == 4 * 2**20, "the half of 8 MiB that programs have"
    assert isinstance(memory.dram_latency_ps, int)


def test_memory_transfer_times_are_bounds_of_each_part() -> None:
    memory = load_target("m1").memory
    assert memory.dram.transfer_ps(68_300_000) > 10**9  # a millisecond at peak, more at the sustained rate
    assert memory.slc.transfer_ps(157_400_000) == 10**9
    assert memory.fabric.transfer_ps("ane", 170_000_000) == 10**9


def test_inheritance_replaces_parameters_and_keeps_the_rest() -> None:
    m1, m4 = load_target("m1"), load_target("m4")
    assert str(m4.parameter("ane.clock")) == "2.364 GHz"
    assert m4.parameter("ane.vector.rate") == m1.parameter("ane.vector.rate")
    assert "i8" in m4.engines["ane"].macs and "i8" not in m1.engines["ane"].macs  # type: ignore[attr-defined]


def test_a_target_in_few_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        name = "m1-wide"
        title = "M1 with twice the array"
        inherits = "m1"
        [ane]
        cores = { value = 32, unit = "cores", source = "what if", confidence = "assumed" }
        """,
    )
    wide, m1 = load_target(path), load_target("m1")
    assert wide.engines["ane"].peak_macs("f16") == 2 * m1.engines["ane"].peak_macs("f16")
    (tmp_path / "child.toml").write_text('name = "c"\ntitle = "c"\ninherits = "soc.toml"\n')
    assert load_target(tmp_path / "child.toml").engines["ane"].weight_space.bytes == 2 * 2**20


def test_an_engine_may_have_any_name(tmp_path: Path) -> None:
    text = M1.replace("[ane]", "[npu]").replace("[ane.", "[npu.").replace("ane = {", "npu = {")
    engine = load_target(write(tmp_path, text)).engines["npu"]
    assert (engine.name, engine.matrix_unit, engine.input_space.name) == ("npu", "npu.mac", "npu.l2")


# ---------------------------------------------------------------- override


@pytest.mark.parametrize(
    ("path", "text", "base"),
    [
        ("ane.cores", "8", 8),
        ("memory.bandwidth", "120e9", 120e9),
        ("memory.bandwidth", "120GB/s", 120e9),
        ("memory.bandwidth", "120G", 120e9),
        ("ane.scratch.size", "2MiB", 2 * 2**20),
        ("ane.scratch.size", "4 Mi", 4 * 2**20),
        ("gpu.clock", "1.5GHz", 1.5e9),
        ("ane.launch", "100us", 1e-4),
        ("ane.array.ahead", "50%", 0.5),
    ],
)
def test_override(path: str, text: str, base: float) -> None:
    target = load_target("m4")
    changed = target.override(path, text)
    assert float(changed.parameter(path)) == pytest.approx(base)  # type: ignore[arg-type]
    assert changed.parameter(path).confidence == "assumed"
    assert target.parameter(path) == load_target("m4").parameter(path), "the old target is unchanged"


def test_override_reaches_the_engines_and_the_memory() -> None:
    m4 = load_target("m4")
    assert m4.override("ane.cores", "8").engines["ane"].weight_space.bytes == 8 * 64 * 1024
    assert m4.override("memory.bandwidth", "1e12").memory.dram_bytes_per_s == 10**12
    assert m4.override("memory.fabric.ports.gpu", "1e12").memory.port_bytes_per_s["gpu"] == 10**12
    dtypes = m4.override("ane.limits.dtypes", "f16, f32").parameter("ane.limits.dtypes")
    assert isinstance(dtypes, Names) and dtypes.value == ("f16", "f32")


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("ane.coers", "8", "target 'm4' has no parameter 'ane.coers'; did you mean 'ane.cores'?"),
        ("memory.bandwith", "8", "did you mean 'memory.bandwidth'?"),
        ("ane", "8", "no parameter 'ane'"),
        ("ane.cores", "many", "ane.cores=many: cannot read 'many' as a number of cores"),
        ("ane.cores", "0", "expected at least 1 cores"),
        ("ane.cores", "2.5", "expected a whole number"),
        ("memory.bandwidth", "120", "120 B/s makes no sense as a bandwidth"),
        ("ane.launch", "100", "expected at most 1 s"),
        ("gpu.clock", "3 parsecs", "expected a number, then nothing or one of Hz, kHz, MHz, GHz"),
        ("ane.array.ahead", "1.5", "expected at most 1 fraction"),
        ("memory.device", "ddr9", "no DRAM device 'ddr9'"),
        ("memory.device", "hbm3_6400, hbm2_2000", "expected one name, not 2"),
        ("memory.granule", "100", "expected whole lines of 64 B"),
    ],
)
def test_override_errors(path: str, text: str, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_target("m4").override(path, text)
    assert words in str(caught.value)


def test_targets_travel_to_other_processes() -> None:
    target = load_target("m4").override("ane.cores", "8")
    copy = pickle.loads(pickle.dumps(target))
    assert copy.memory == target.memory and list(copy.engines) == list(target.engines)
    with pytest.raises(TargetError):
        copy.override("ane.cores", "x")


# ---------------------------------------------------------------- errors: file, field, what is wrong, what is expected


def test_unknown_names() -> None:
    known = ", ".join(list_targets())
    assert error_of("m44") == f"no target 'm44'; did you mean 'm4'? Targets: {known}; or give a .toml file"
    assert error_of("nowhere/soc.toml") == "no target file nowhere/soc.toml"


def test_toml_errors_give_the_line(tmp_path: Path) -> None:
    message = error_of(write(tmp_path, 'name = "x"\ntitle = = "y"\n'))
    assert "soc.toml: no valid TOML:" in message and "line 2" in message


CLOCK = 'clock = { value = 1.464, unit = "GHz"'
SIZE = 'source = "soc_memory", confidence = "B"'
PORT = "\ncpu = { value = 68.3"
NO_PORT = '\nisp = { value = 1e9, unit = "B/s", source = "made up", confidence = "C" }' + PORT
WRONG = [  # what is replaced, by what, and what the error then says
    ('name = "m1"', "", 'name: is missing; expected name = "..."'),
    ('title = "Apple M1"', 'title = "x"\nnmae = "x"', "nmae: unknown key; did you mean 'name'?"),
    (CLOCK, CLOCK.replace("clock", "clok"), 'ane.clock: is missing; expected { value = ..., unit = "Hz"'),
    (CLOCK, CLOCK.replace("GHz", "GB/s"), "ane.clock: 'GB/s' is no unit of a clock; expected Hz, kHz, MHz, GHz"),
    (CLOCK, CLOCK.replace("1.464", '"fast"'), "ane.clock.value: Input should be a valid number, not 'fast'"),
    (CLOCK, CLOCK.replace("1.464", "-1"), "ane.clock: -1 GHz makes no sense as a clock; expected at least 1e+06 Hz"),
    (CLOCK, "clock = 1.464 #", 'ane.clock: is 1.464; expected { value = ..., unit = "Hz"'),
    ("[ane.scratch]", "[ane.scratch]\nbannks = 3", "ane.scratch.bannks: no such key; did you mean 'banks'?"),
    (SIZE, 'confidence = "B"', "memory.slc.size.source: is missing; a parameter has value, unit, source, confidence"),
    (SIZE, SIZE.replace('"B"', '"sure"'), "size.confidence: Input should be 'A', 'B', 'C' or 'assumed', not 'sure'"),
    (
        'kind = "neural"',
        'kind = "neurl"',
        "ane.kind: 'neurl' is no kind of engine; did you mean 'neural'?; expected one of",
    ),
    ('kind = "neural"', "", "ane.kind: is missing; expected one of neural, gpu, cpu"),
    (PORT, "\ncpuu = { value = 68.3", "memory.fabric.ports.cpu: is missing; every engine needs a port"),
    (PORT, NO_PORT, "memory.fabric.ports.isp: there is no engine 'isp'"),
    ("[memory.slc]", "[memory.slk]", "memory.slc: is missing; expected a table"),
]


@pytest.mark.parametrize(("old", "new", "words"), WRONG, ids=[words for _, _, words in WRONG])
def test_a_wrong_file_gives_one_clear_error(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in M1
    message = error_of(write(tmp_path, M1.replace(old, new, 1)))
    assert message.startswith(f"{tmp_path / 'soc.toml'}: ")
    assert words in message
    assert "\n" not in message and "pydantic" not in message


def test_inheritance_errors(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "a"\ntitle = "a"\ninherits = "soc.toml"\n')
    assert "inherits from itself" in error_of(path)
    assert "no target 'm9'" in error_of(write(tmp_path, 'name = "a"\ntitle = "a"\ninherits = "m9"\n'))
    assert "expected the name of a target" in error_of(write(tmp_path, 'name = "a"\ntitle = "a"\ninherits = 3\n'))


def test_an_inherited_parameter_is_replaced_whole(tmp_path: Path) -> None:
    text = 'name = "a"\ntitle = "a"\ninherits = "m1"\n[ane]\ncores = { value = 8 }\n'
    assert "ane.cores.unit: is missing" in error_of(write(tmp_path, text))


@pytest.mark.parametrize("name", ["m4", "a100"])
def test_every_parameter_is_read(name: str) -> None:
    """No parameter is there for show: each changes what an engine or the memory holds."""
    whole = load_target(name)

    def state(target: Target) -> tuple[object, ...]:
        return (target.memory, *(vars(engine) for engine in target.engines.values()))

    for path, p in whole.parameters():
        if isinstance(p, Names):
            samples = {"kernels": "8x8x8@32", "devices": "ddr4_3200_x64"}
            text = samples.get(p.unit) or next(t for t in ("f16", "f32") if [t] != list(p.value))
        elif p.measure.whole:
            text = f"{p.value + 1:g} {p.unit}"
        else:
            text = f"{p.value / 2 or 1:g} {p.unit}"
        assert repr(state(whole.override(path, text))) != repr(state(whole)), path


# ---------------------------------------------------------------- rates of copies


def test_copies_of_a_gpu_grow_with_its_cores_unless_the_l2_is_stated() -> None:
    m4, a100 = load_target("m4"), load_target("a100")
    one = 32 * 1.398e9  # B/cycle of a core, at its clock
    for cores in (5, 10, 20):
        assert m4.override("gpu.cores", str(cores)).engines["gpu"].loads.bytes_per_s == pytest.approx(cores * one)
    l2 = a100.engines["gpu"].loads.bytes_per_s
    assert l2 == a100.override("gpu.cores", "200").engines["gpu"].loads.bytes_per_s == pytest.approx(7219e9)
    assert a100.override("gpu.cores", "54").engines["gpu"].loads.bytes_per_s < l2


def test_other_engines_state_what_their_copies_reach(tmp_path: Path) -> None:
    lines = [t for t in M1.splitlines() if not t.startswith("weights = { value = 60.87")]
    expected = r'ane: dma\.weights is missing; expected { value = \.\.\., unit = "GB/s"'
    with pytest.raises(TargetError, match=expected):
        load_target(write(tmp_path, "\n".join(lines)))
    text = 'name = "x"\ntitle = "x"\ninherits = "m1"\n[ane.dma]\nload = 5\n'
    assert 'unit = "B/s"' in error_of(write(tmp_path, text))
