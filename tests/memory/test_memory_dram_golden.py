"""Reading golden runs: pseudo channels and commands of several cycles, which no shipped configuration has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tilewright.targets.memory.dram.device import Channel, Command
from tilewright.targets.memory.dram.reference import simulate
from tilewright.targets.memory.dram.requests import Lines
from tilewright.targets.validation.dram import golden


def rule(level: str, preceding: list[str], following: list[str], expression: str, value: int, window: int = 1) -> Any:
    return {
        "level": level,
        "preceding": preceding,
        "following": following,
        "latency_expr": expression,
        "latency": value,
        "window": window,
        "sibling": False,
    }


@pytest.fixture
def hbm(tmp_path: Path) -> Channel:
    """Two pseudo channels, whose activates take two cycles of the row bus."""
    d = {
        "config": "hbm",
        "simulator": "Ramulator 2.1",
        "standard": "HBM2",
        "timing_cycles": {"nBL": 2, "nCL": 14, "nCWL": 5, "nRCDRD": 14, "nRP": 14, "nRAS": 34, "nRC": 48}
        | {"nCCDL": 4, "nCCDS": 2, "nRRDS": 4, "nFAW": 15, "nREFI": 3900, "nRFC": 350, "tCK_ps": 1000},
        "derived": {"read_latency": 16, "burst_cycles": 2},
        "constraints": [
            rule("PseudoChannel", ["RD", "RDA"], ["RD", "RDA"], "nCCDS", 2),
            rule("PseudoChannel", ["ACT"], ["ACT"], "nFAW", 15, 4),
            rule("PseudoChannel", ["ACT"], ["ACT"], "nRRDS", 4),
            rule("BankGroup", ["RD", "RDA"], ["RD", "RDA"], "nCCDL", 4),
            rule("Bank", ["ACT"], ["RD", "RDA"], "nRCDRD", 14),
            rule("Bank", ["ACT"], ["PREpb"], "nRAS", 34),
            rule("Bank", ["PREpb"], ["ACT"], "nRP", 14),
        ],
        "command_cycles": {"ACT": 2},
        "organisation": {"pseudochannel": 2, "bankgroup": 4, "bank": 4, "row": 1 << 16, "burst_bytes": 32},
        "address_mapping": {
            "offset_bits": 5,
            "fields_lsb_to_msb": [["co", 1], ["pc", 1], ["bg", 2], ["co", 4], ["ba", 2], ["ro", 14]],
        },
        "controller": {"read_buffer": 32, "write_buffer": 32, "wr_high_watermark": 0.8, "wr_low_watermark": 0.2},
    }
    (tmp_path / "hbm.json").write_text(json.dumps(d))
    return golden.channel("hbm", folder=tmp_path)


def test_times_run_from_the_last_cycle_of_a_command(hbm: Channel) -> None:
    cycles = {(r.preceding, r.following, r.level): r.cycles for r in hbm.rules if r.window == 1}
    assert cycles[Command.ACT, Command.RD, "bank"] == 15
    assert cycles[Command.PRE, Command.ACT, "bank"] == 13
    assert cycles[Command.ACT, Command.ACT, "rank"] == 4
    assert cycles[Command.ACT, Command.PRE, "channel"] == 2  # the row bus is taken
    assert (Command.ACT, Command.RD, "channel") not in cycles  # the column bus is not


def test_pseudo_channels_have_pins_of_their_own(hbm: Channel) -> None:
    n, reads = 4000, np.zeros(4000, np.bool_)
    line = np.arange(n, dtype=np.int64)
    assert hbm.peak_bytes_per_s == pytest.approx(32e9)
    spread = simulate(hbm, Lines(line * 64, reads))
    alone = simulate(hbm, Lines(line * 128, reads))  # every second line: one pseudo channel
    assert spread.bytes_per_s > 0.85 * 32e9
    assert 0.4 * 32e9 < alone.bytes_per_s < 0.5 * 32e9


def test_unknown_refresh_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="expected allbank, perbank or none"):
        golden.channel("ds3_DDR4_3200_bgint", "sometimes")
