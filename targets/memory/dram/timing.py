"""Timing parameters by their JEDEC names, and the table of rules that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

from .device import Command, Organisation, Rule

ACT, PRE, PREA, RD, WR, REFAB, REFPB = (
    Command.ACT,
    Command.PRE,
    Command.PREA,
    Command.RD,
    Command.WR,
    Command.REFAB,
    Command.REFPB,
)


@dataclass(frozen=True, slots=True)
class Timing:
    """Cycles of the command clock. `_s`: between bank groups, `_l`: within one (equal where there are no groups)."""

    burst: int  # data pins busy a burst
    rl: int
    wl: int
    rcd_rd: int
    rcd_wr: int
    rp: int
    ras: int
    rc: int
    wr: int
    rtp: int
    ccd_s: int
    ccd_l: int
    wtr_s: int
    wtr_l: int
    rrd_s: int
    rrd_l: int
    faw: int
    rfc: int
    refi: int
    turnaround: int  # idle pins between a read and a write burst, and between bursts of two ranks (tRTRS)
    ppd: int = 0  # PRE to PRE of another bank; 0: no such rule
    rp_ab: int = 0  # PREab to ACT; 0: as PRE
    ccd_l_wr: int = 0  # WR to WR in one group; 0: as reads
    burst_l: int = 0  # what a burst takes within one group (LPDDR5: BL/n_max); 0: as on the pins
    rfc_pb: int = 0  # 0: no per-bank refresh
    refi_pb: int = 0
    pb_to_act: int = 0  # REFpb to ACT of another bank
    pb_to_pb: int = 0


def rules(t: Timing, organisation: Organisation) -> tuple[Rule, ...]:
    """The rules of a DDR-like device: JESD79-4, JESD209-4/-5 and JESD235 agree on them, apart from the numbers."""
    read_to_write = t.rl + t.burst + t.turnaround - t.wl
    write_to_precharge = t.wl + t.burst + t.wr
    table = [
        Rule("bank", ACT, ACT, t.rc),
        Rule("bank", ACT, RD, t.rcd_rd),
        Rule("bank", ACT, WR, t.rcd_wr),
        Rule("bank", ACT, PRE, t.ras),
        Rule("bank", PRE, ACT, t.rp),
        Rule("bank", RD, PRE, t.rtp),
        Rule("bank", WR, PRE, write_to_precharge),
        Rule("bank_group", ACT, ACT, t.rrd_l),
        Rule("bank_group", RD, RD, max(t.burst, t.ccd_l)),
        Rule("bank_group", WR, WR, max(t.burst, t.ccd_l_wr or t.ccd_l)),
        Rule("bank_group", WR, RD, t.wl + (t.burst_l or t.burst) + t.wtr_l),
        Rule("rank", ACT, ACT, t.rrd_s),
        Rule("rank", ACT, ACT, t.faw, window=4),
        Rule("rank", RD, RD, max(t.burst, t.ccd_s)),
        Rule("rank", WR, WR, max(t.burst, t.ccd_s)),
        Rule("rank", WR, RD, t.wl + t.burst + t.wtr_s),
        Rule("rank", RD, WR, read_to_write),
        Rule("rank", RD, PREA, t.rtp),
        Rule("rank", WR, PREA, write_to_precharge),
        Rule("rank", ACT, PREA, t.ras),
        Rule("rank", PREA, ACT, t.rp_ab or t.rp),
        Rule("rank", PRE, REFAB, t.rp),
        Rule("rank", PREA, REFAB, t.rp_ab or t.rp),
        Rule("rank", REFAB, ACT, t.rfc),
        Rule("rank", REFAB, REFAB, t.rfc),
    ]
    if t.ppd:
        table.append(Rule("bank", PRE, PRE, t.ppd, others=True))
        table.append(Rule("bank_group", PRE, PRE, t.ppd, others=True))
    if t.rfc_pb:
        table += [
            Rule("bank", REFPB, ACT, t.rfc_pb),
            Rule("bank", ACT, REFPB, t.rc),
            Rule("bank", PRE, REFPB, t.rp),
            Rule("rank", REFPB, ACT, t.pb_to_act),
            Rule("rank", REFPB, REFPB, t.pb_to_pb),
            Rule("rank", REFPB, REFAB, t.rfc_pb),
            Rule("rank", REFAB, REFPB, t.rfc),
        ]
    if organisation.ranks > 1 and not organisation.pseudo_channels:  # ranks share the data pins
        table += [
            Rule("rank", RD, RD, t.burst + t.turnaround, others=True),
            Rule("rank", RD, WR, read_to_write, others=True),
            Rule("rank", WR, RD, t.wl + t.burst + t.turnaround - t.rl, others=True),
            Rule("rank", WR, WR, t.burst, others=True),
        ]
    return tuple(table)
