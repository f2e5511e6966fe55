"""Reads the golden DRAM runs: the parameters of a configuration as a `Channel`, and what its simulator reported.

The two simulators are DRAMsim3 (`ds3_`, bank queues) and Ramulator 2.1 (`r2_`, FR-FCFS); `data/README.md` says how they
were run. Every reader takes a folder, so that further runs in the same format can be tried.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tilewright.targets.memory.dram.device import (
    AddressMap,
    BankQueues,
    Channel,
    Command,
    Energy,
    Organisation,
    Refresh,
    RowHitFirst,
    Rule,
)
from tilewright.targets.memory.dram.requests import Bursts, Lines
from tilewright.targets.memory.dram.timing import Timing, rules

DATA = Path(__file__).parent / "data"
_FIELDS = {"ra": "rank", "pc": "rank", "pch": "rank", "bg": "bank_group", "ba": "bank", "ro": "row", "co": "column"}
_COMMANDS = {
    "ACT": Command.ACT,
    "ACT1": Command.ACT,
    "ACT2": Command.ACT2,
    "PRE": Command.PRE,
    "PREpb": Command.PRE,
    "PREab": Command.PREA,
    "CAS_RD": Command.CAS_RD,
    "CAS_WR": Command.CAS_WR,
    "RD": Command.RD,
    "WR": Command.WR,
    "REFab": Command.REFAB,
    "REFpb": Command.REFPB,
}
_AUTO_PRECHARGE = ("RDA", "WRA")  # never issued under an open-page policy
_ROW_COMMANDS = (Command.ACT, Command.PRE, Command.PREA, Command.REFAB, Command.REFPB)
_LEVELS: Mapping[str, Any] = {
    "Channel": "channel",
    "Rank": "rank",
    "PseudoChannel": "rank",
    "BankGroup": "bank_group",
    "Bank": "bank",
}


def configurations(folder: Path = DATA) -> list[str]:
    return sorted(p.stem for p in folder.glob("*.json"))


def channel(config: str, refresh: str = "allbank", folder: Path = DATA) -> Channel:
    """The channel of a configuration. `refresh`: allbank, perbank or none, as in the tables."""
    d = json.loads((folder / f"{config}.json").read_text())
    build = _dramsim3 if d["simulator"] == "DRAMsim3" else _ramulator
    return build(d, refresh)


def _address_map(d: Mapping[str, Any]) -> tuple[AddressMap, dict[str, int]]:
    fields = tuple((_FIELDS[name], bits) for name, bits in d["address_mapping"]["fields_lsb_to_msb"])
    sizes: dict[str, int] = {}
    for name, bits in fields:
        sizes[name] = sizes.get(name, 1) << bits
    return AddressMap(d["address_mapping"]["offset_bits"], fields), sizes


def _organisation(
    d: Mapping[str, Any], ranks: int, groups: int, banks: int, pseudo: bool
) -> tuple[Organisation, AddressMap]:
    address_map, sizes = _address_map(d)
    o = d["organisation"]
    rows = o.get("rows") or o["row"]
    return Organisation(ranks, groups, banks, rows, sizes["column"], o["burst_bytes"], pseudo), address_map


# ---------------------------------------------------------------- DRAMsim3


def _dramsim3(d: Mapping[str, Any], refresh: str) -> Channel:
    t, o, c = d["timing_cycles"], d["organisation"], d["controller"]
    organisation, address_map = _organisation(d, o["ranks"], o["bank_groups"], o["banks_per_group"], False)
    grouped = "L" if o["bank_groups"] > 1 else "S"  # one group: the simulator takes the shorter times for it
    timing = Timing(
        burst=t["burst_cycles"],
        rl=t["RL"],
        wl=t["WL"],
        rcd_rd=t["tRCD_RD"],
        rcd_wr=t["tRCD_WR"],
        rp=t["tRP"],
        ras=t["tRAS"],
        rc=t["tRC"],
        wr=t["tWR"],
        rtp=t["tRTP"],
        ccd_s=t["tCCD_S"],
        ccd_l=t[f"tCCD_{grouped}"],
        wtr_s=t["tWTR_S"],
        wtr_l=t[f"tWTR_{grouped}"],
        rrd_s=t["tRRD_S"],
        rrd_l=t[f"tRRD_{grouped}"],
        faw=t["tFAW"],
        rfc=t["tRFC"],
        refi=t["tREFI"],
        turnaround=t["tRTRS"],
        ppd=t["tPPD"] if d["protocol"] == "LPDDR4" else 0,  # the simulator ignores it elsewhere
    )
    power = d["power"]
    return Channel(
        name=d["config"],
        clock_ps=t["tCK_ns"] * 1000,
        organisation=organisation,
        address_map=address_map,
        rules=rules(timing, organisation),
        scheduling=BankQueues(c["transaction_queue_read"], c["transaction_queue_write"], c["command_queue_per_bank"]),
        refresh=_refresh(refresh, t["tREFI"], 0, staggered=True),
        read_latency=t["RL"],
        write_latency=t["WL"],
        burst_cycles=t["burst_cycles"],
        dual_issue=c["dual_command_issue"],
        energy=Energy.of_currents(
            power["VDD"],
            power["IDD_mA"],
            ras=t["tRAS"],
            rp=t["tRP"],
            burst=t["burst_cycles"],
            rfc=t["tRFC"],
            clock_ns=t["tCK_ns"],
            devices=o["devices_per_rank"],
        ),
    )


def _refresh(mode: str, interval: int, interval_per_bank: int, staggered: bool = False) -> Refresh:
    if mode == "none":
        return Refresh("none")
    if mode == "perbank":
        return Refresh("per_bank", interval_per_bank)
    if mode != "allbank":
        raise ValueError(f"{mode!r} is no refresh mode; expected allbank, perbank or none")
    return Refresh("all_bank", interval, staggered)


# ---------------------------------------------------------------- Ramulator 2.1


def _ramulator(d: Mapping[str, Any], refresh: str) -> Channel:
    t, o, c = d["timing_cycles"], d["organisation"], d["controller"]
    pseudo = "pseudochannel" in o
    ranks = o["pseudochannel"] if pseudo else o.get("rank", 1)
    organisation, address_map = _organisation(d, ranks, o["bankgroup"], o["bank"], pseudo)
    burst = d["derived"]["burst_cycles"]
    hbm = d["standard"].startswith("HBM")
    split = "nAAD" in t
    return Channel(
        name=d["config"],
        clock_ps=t["tCK_ps"],
        organisation=organisation,
        address_map=address_map,
        rules=tuple(_listed_rules(d, hbm)),
        scheduling=RowHitFirst(c["read_buffer"], c["write_buffer"], c["wr_high_watermark"], c["wr_low_watermark"]),
        refresh=_refresh(refresh, t["nREFI"], t.get("nREFIpb", 0)),
        read_latency=d["derived"]["read_latency"] - burst,
        write_latency=t["nCWL"],
        burst_cycles=burst,
        dual_issue=hbm,
        activate_window=t["nAAD"] if split else 0,
        clock_sync_after=t["nWCKPST"] if c.get("wck_sync_mode") == "need_sync" else -1,
    )


def _listed_rules(d: Mapping[str, Any], hbm: bool) -> Iterator[Rule]:
    """The rules as listed, between first cycles of commands.

    A listed time runs from the last cycle of one command to that of the next. One of several cycles holds its bus.
    """
    t = d["timing_cycles"]
    length = {_COMMANDS[k]: int(v) for k, v in d["command_cycles"].items() if k not in _AUTO_PRECHARGE}
    for e in d["constraints"]:
        plain = e["latency"] == _evaluate(e["latency_expr"], t)  # else the file counts from first cycles already
        for preceding in e["preceding"]:
            for following in e["following"]:
                if preceding in _AUTO_PRECHARGE or following in _AUTO_PRECHARGE:
                    continue
                p, f = _COMMANDS[preceding], _COMMANDS[following]
                shift = length.get(p, 1) - length.get(f, 1) if plain else 0
                yield Rule(_LEVELS[e["level"]], p, f, e["latency"] + shift, e["window"], e["sibling"])
    for command, cycles in length.items():
        if cycles > 1:
            row = command in _ROW_COMMANDS
            for other in Command:
                if not hbm or (other in _ROW_COMMANDS) == row:
                    yield Rule("channel", command, other, cycles)


def _evaluate(expression: str, values: Mapping[str, int]) -> int:
    """The value of a sum such as `nCL + nBL_min + 2 - nCWL`."""
    if not re.fullmatch(r"[\w\s+\-]+", expression):
        raise ValueError(f"cannot read the timing expression {expression!r}; expected a sum of names and numbers")
    total, sign = 0, 1
    for token in re.findall(r"\w+|[+\-]", expression):
        if token in "+-":
            sign = 1 if token == "+" else -1
        else:
            total += sign * (int(token) if token.isdigit() else values[token])
    return total


# ---------------------------------------------------------------- results


@dataclass(frozen=True)
class Issued:
    """One row of a command table."""

    cycle: int
    command: str
    place: tuple[int, int, int]  # rank, bank group, bank
    row: int
    column: int


def rows(config: str, table: str = "", folder: Path = DATA) -> list[dict[str, str]]:
    """Rows of `<config><table>.csv`; `table` is "", "_isolated", "_commands" or "_microtx"."""
    with (folder / f"{config}{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def micro_commands(config: str, folder: Path = DATA) -> dict[str, list[Issued]]:
    """Commands by micro pattern, in the order of the table."""
    found: dict[str, list[Issued]] = {}
    for r in rows(config, "_commands", folder):
        place = (int(r["rank_or_pc"]), int(r["bank_group"]), int(r["bank"]))
        item = Issued(int(r["issue_cycle"]), r["command"], place, int(r["row"]), int(r["column"]))
        found.setdefault(r["micro_pattern"], []).append(item)
    return found


def micro_bursts(config: str, of: Channel, folder: Path = DATA) -> dict[str, Bursts]:
    """The bursts by micro pattern (transactions of one burst each)."""
    found: dict[str, list[dict[str, str]]] = {}
    for r in rows(config, "_microtx", folder):
        found.setdefault(r["micro_pattern"], []).append(r)
    size = of.organisation.burst_bytes
    bursts = {}
    for name, txs in found.items():
        addresses = np.array([int(r["address"]) for r in txs], np.int64)
        writes = np.array([r["rw"] == "W" for r in txs])
        not_before = np.array([int(r["not_before_cycle"]) for r in txs], np.int64)
        bursts[name] = Lines(addresses, writes, not_before, size).bursts(of)
    return bursts


def command_name(command: Command, split: bool) -> str:
    """The name that the command tables use."""
    names = {Command.ACT: "ACT1" if split else "ACT", Command.PRE: "PRE", Command.PREA: "PREab"}
    names |= {Command.REFAB: "REFab", Command.REFPB: "REFpb"}
    return names.get(command, command.name)
