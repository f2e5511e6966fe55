"""The devices that ship: complete, sourced, and in agreement with the golden runs that share their parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_runs import channel, stream
from tilewright.targets.memory.dram import lines, reference
from tilewright.targets.memory.dram.device import Refresh
from tilewright.targets.memory.dram.section import DEVICES, DeviceError, list_devices, load_device, read_device

PEAK = {  # GB/s of one channel: data rate x width / 8
    "lpddr4x_4266_x16": 8.533,
    "lpddr5_6400_x16": 12.8,
    "lpddr5x_8533_x16": 17.067,
    "hbm2_2000": 32.0,
    "hbm2e_3200": 51.2,
    "hbm3_6400": 51.2,
    "gddr6_14000_x16": 28.0,
    "ddr4_3200_x64": 25.6,
    "ddr5_4800_x32": 19.2,
}


@pytest.mark.parametrize("name", list_devices())
def test_device_reaches_its_peak(name: str) -> None:
    of = load_device(name)
    assert of.peak_bytes_per_s / 1e9 == pytest.approx(PEAK[name], rel=1e-3)
    sustained = reference.simulate(of, stream("seq_R")).bytes_per_s / of.peak_bytes_per_s
    assert 0.8 < sustained < 1.0
    fast = lines.simulate(of, stream("seq_R")).bytes_per_s / of.peak_bytes_per_s
    assert fast == pytest.approx(sustained, rel=0.03)


@pytest.mark.parametrize("name", list_devices())
def test_every_parameter_has_a_source(name: str) -> None:
    section = read_device(DEVICES / f"{name}.toml")
    found = dict(section.parameters())
    assert len(found) > 30
    for path, quantity in found.items():
        assert quantity.unit and len(quantity.source) >= 3 and quantity.confidence in ("A", "B", "C", "assumed"), path
    assert section.map.source and section.map.confidence


@pytest.mark.parametrize(
    ("name", "golden"),
    [("ddr4_3200_x64", "r2_DDR4_3200AA_bgint"), ("lpddr5_6400_x16", "r2_LPDDR5_6400_x16_bgint")],
)
@pytest.mark.parametrize("pattern", ["rand_A_256", "stride_R_4096", "stride_W_256"])
def test_generic_rules_equal_the_listed_ones(name: str, golden: str, pattern: str) -> None:
    """The device's numbers and the rules of `timing` give what the golden run's own list of rules gives.

    Without refreshes: there, that list takes the time of one bank's precharge for that of all.
    """
    both = (c.with_refresh(Refresh("none")) for c in (load_device(name), channel(golden)))
    ours, theirs = (reference.simulate(c, stream(pattern)) for c in both)
    assert ours.cycles == theirs.cycles and ours.counts == theirs.counts


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = (DEVICES / "ddr4_3200_x64.toml").read_text()
    assert old in text
    path = tmp_path / "changed.toml"
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rl = { value = 22", "rl = { value = -22", "timing.rl: -22 cycles makes no sense"),
        ("[timing]", "[timing]\nzz = 1", "timing.zz"),
        ('"bank:2"', '"bonk:2"', "'bonk:2' is no field"),
        ('"row:16"', '"row:30"', "30 bits of row"),
        (
            "ranks = {",
            'pseudo_channels = { value = 1, unit = "pseudo channels", source = "none", confidence = "C" }\nranks = {',
            "either ranks",
        ),
        ('standard = "DDR4"', 'standard = "DDR9"', "standard"),
        ("[map]", "[map", "no valid TOML"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(DeviceError) as error:
        load_device(changed(tmp_path, old, new))
    assert message in str(error.value) and "changed.toml" in str(error.value)


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(DeviceError, match="no DRAM device 'ddr9'; expected one of ddr4_3200_x64"):
        load_device("ddr9")
