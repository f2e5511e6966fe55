"""Energy from data-sheet currents, against what DRAMsim3 reports for the golden runs."""

from __future__ import annotations

import json

import pytest
from golden_runs import CONFIGURATIONS, channel, rows, stream
from tilewright.targets.memory.dram.reference import simulate
from tilewright.targets.validation.dram import golden

WITH_CURRENTS = [c for c in CONFIGURATIONS if c.startswith("ds3_")]
COLUMNS = {
    "activate": "energy_act_mAVcyc",
    "read": "energy_read_mAVcyc",
    "write": "energy_write_mAVcyc",
    "refresh": "energy_refresh_mAVcyc",
    "background": "energy_background_mAVcyc",
}


@pytest.mark.parametrize("configuration", WITH_CURRENTS)
def test_energy_of_each_command(configuration: str) -> None:
    d = json.loads((golden.DATA / f"{configuration}.json").read_text())
    increments = d["power"]["energy_increment_mA_V_cycles"]
    energy, clock_ns = channel(configuration).energy, d["timing_cycles"]["tCK_ns"]
    assert energy is not None
    got = (energy.activate, energy.read, energy.write, energy.refresh, energy.active_cycle, energy.idle_cycle)
    keys = ("act", "read", "write", "ref", "act_standby_per_cycle_per_rank", "pre_standby_per_cycle_per_rank")
    assert [x / clock_ns for x in got] == pytest.approx([increments[k] for k in keys])


@pytest.mark.parametrize("configuration", WITH_CURRENTS)
def test_energy_of_patterns(configuration: str) -> None:
    clock_ns = channel(configuration).clock_ps / 1000
    for row in rows(configuration):
        if row.pattern.name not in ("stride_W_256", "rand_A_64", "tile_R_128_57344"):
            continue
        got = simulate(row.channel, stream(row.pattern.name)).energy_pj()
        for part, column in COLUMNS.items():
            assert got[part] == pytest.approx(float(row.values[column]) * clock_ns, rel=0.01), (row.pattern.name, part)
        assert sum(got.values()) == pytest.approx(float(row.values["energy_total_pJ"]), rel=0.01)


def test_no_energy_without_currents() -> None:
    of = channel("r2_DDR4_3200AA_bgint")
    with pytest.raises(ValueError, match="no currents"):
        simulate(of, stream("paced_rand_R_8")).energy_pj()
