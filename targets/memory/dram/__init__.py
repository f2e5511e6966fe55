"""Main memory, from what its channels carry together down to single DRAM commands.

bandwidth   `Dram`: peak, latency, and the device behind them, as a target file gives it.
demand      How long the channels are busy with a pattern of accesses, alone and beside others; what the simulator
            charges a copy. By `lines`, on a pattern's first lines.
device      `Channel`: organisation, address map, timing rules, scheduling policy, refresh, energy. `timing` makes the
            rules from JEDEC parameters, `section` reads `devices/*.toml`, whose every number has a source.
reference   One channel, command by command, each in its cycle, under one of two scheduling policies: a command queue a
            bank, round robin with write draining (`device.BankQueues`, as DRAMsim3 has it), or FR-FCFS with row hits
            first and write watermarks (`device.RowHitFirst`, as Ramulator 2.1 has it). What `lines` is held to.
lines       One channel, line by line: bank states and calendars of activates and data pins, no searched queues. For
            the simulator proper: 12-25 M lines/s (CPU time, one core of a shared EPYC); the reference does 0.8-2.3 M.
channels    Several channels that share an address space; `traffic` describes what engines move as runs at strides.

Measured agreement (`tests/memory`, `tests/bench/bench_dram.py`) with the golden runs of DRAMsim3 and Ramulator 2.1 in
`targets/validation/dram`:

- reference: every command of the micro traces and every isolated latency in the same cycle; the same total cycles,
  activates, column commands and mean read latency in 690 of 690 runs (46 patterns, 8 configurations, with and without
  refresh), and in 165 of 165 with queues of 8 to 128 entries. Energy of DRAMsim3's runs within 0.84 %; what is left is
  a refresh in the idle tail of a few runs.
- lines, on the same 690 runs: time within 1.1 % median, 0.4-1.8 % by configuration; 0.4 % on reads, 1.6 % on writes,
  2.1 % on both. 6 % of the runs are off by more than 10 %: streams that fight for one bank (67 % at worst, where two
  lines share a burst), tiles that come back to their rows only after a whole column (28 %).

Not modelled: power-down, self-refresh, ODT, ZQ calibration, derating, tDQSCK, ECC.
"""

from .bandwidth import Dram, DramParameters

__all__ = ["Dram", "DramParameters"]
