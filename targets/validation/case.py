"""One measurement: what ran, where, how long it took, and whether it may be counted."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from .workloads import Workload


@dataclass(frozen=True, slots=True)
class Harness:
    """What measuring adds to each call beyond the program itself.

    The program's time is multiplied by `factor`; a call costs `call_s` more, and its inputs and results are copied at
    `copy_bytes_per_s` (0: not copied). A call launches `kernels` kernels that wait for each other (0: as the
    program has tasks); each that is more, because less is fused, or less, because more run side by side, costs or saves
    what a task of the engine does. The host works on for `hidden_s` before it waits for the program, so that one that
    is shorter costs nothing more. A host that sleeps while it waits sees the end of each call later: by `wake_s` where
    the call takes `asleep_s` or more, in proportion below. Where `call_s` is None it is fitted: the shortest call of
    the harness on each chip gives it, and that row is not counted.
    """

    name: str
    source: str
    call_s: float | None = 0.0
    copy_bytes_per_s: float = 0.0
    factor: float = 1.0
    hidden_s: float = 0.0
    kernels: int = 0
    wake_s: float = 0.0
    asleep_s: float = 0.0


DEVICE = Harness("device", "the device's own clock: nothing is added")


@dataclass(frozen=True, slots=True)
class Case:
    """A row of a table, or one of the figures in a row.

    `measured` is in seconds, or in cycles where the table is one of cycles. `fitted` is the reason why the row is not
    counted: it was, or may be, used to set parameters. `unpriced` says why no workload could be made from the row.
    `engines` are those that the row names, the most wanted first; none named: all of the target's. `settings` are
    parameters in which the device differs from its target file, such as ("gpu.cores", "7"). `target_file` describes the
    target where no file that ships does. `eager`: each op of the workload ran by itself, as a framework calls them.

    What makes a case leaves `row` empty, or says what tells the cases of one row apart; the table adds the line.
    """

    target: str
    workload: Workload | None
    measured: float
    row: str = ""
    part: str = ""
    engines: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    harness: Harness = DEVICE
    fitted: str = ""
    unpriced: str = ""
    label: str = ""
    target_file: str = ""
    eager: bool = False
    source: str = ""  # where the row was published, in tables of several sources


def is_half(*content: Any) -> bool:
    """Whether a row falls into the half that may be fitted: the parity of the BLAKE2b hash of what was measured.

    The rule looks at the row's own columns and not at its place, so that other rows split in the same way.
    """
    text = "|".join(map(str, content))
    return blake2b(text.encode(), digest_size=1).digest()[0] % 2 == 0


HALF = "one of the half that may be used for fitting, by a hash of its sizes"
