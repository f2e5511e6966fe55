"""DRAM devices as TOML: every number with its unit, source and confidence.

standard = "LPDDR5"
title = "LPDDR5-6400, one 16-bit channel"
clock = { value = 800, unit = "MHz", source = "...", confidence = "B" }

[organisation]      # of one channel
[map]               # fields of an address, from the LSB up
[timing]            # JEDEC names in lower case, in cycles of the clock
[controller]        # queues
[currents]          # optional, for energy
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tilewright.targets.parameter import Bytes, Clock, Confidence, Cycles, Fraction, Measure, Quantity, Section, count

from .device import FIELDS, AddressMap, Channel, Energy, Organisation, Refresh, RowHitFirst
from .timing import Timing, rules

DEVICES = Path(__file__).parent / "devices"
_AMPERES = Measure("current", "A", (("A", 1.0), ("mA", 1e-3)), 0.0, 10.0)
_VOLTS = Measure("voltage", "V", (("V", 1.0),), 0.3, 5.0)
Current = Annotated[Quantity, _AMPERES]
Voltage = Annotated[Quantity, _VOLTS]
Ranks = Annotated[Quantity, count("ranks", 64)]
PseudoChannels = Annotated[Quantity, count("pseudo channels", 4)]
Groups = Annotated[Quantity, count("bank groups", 64)]
Banks = Annotated[Quantity, count("banks", 64)]
Rows = Annotated[Quantity, count("rows", 1 << 24)]
Bursts = Annotated[Quantity, count("bursts", 1 << 16)]
Entries = Annotated[Quantity, count("entries", 1024)]
DeviceCount = Annotated[Quantity, count("devices", 64)]


class DeviceError(Exception):
    """A device that cannot be found or read; the message says where, what is wrong, and what is expected."""


class OrganisationSection(Section):
    """One channel; either `ranks` or `pseudo_channels`."""

    ranks: Ranks | None = None
    pseudo_channels: PseudoChannels | None = None
    bank_groups: Groups  # a rank or pseudo channel
    banks: Banks  # a group
    rows: Rows
    row: Bursts  # of a row
    burst: Bytes


class MapSection(BaseModel):
    """Fields as "name:bits", from the LSB up, above the bytes of a burst."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    value: tuple[str, ...]
    unit: Literal["bits"]
    source: str = Field(min_length=3)
    confidence: Confidence

    def fields(self) -> tuple[tuple[str, int], ...]:
        """Raises ValueError for what is no `field:bits`."""
        found = []
        for text in self.value:
            name, _, bits = text.partition(":")
            if name not in FIELDS or not bits.isdigit():
                raise ValueError(f"map: {text!r} is no field; expected name:bits with a name of {', '.join(FIELDS)}")
            found.append((name, int(bits)))
        return tuple(found)


class TimingSection(Section):
    """`_s`: between bank groups, `_l`: within one. What is optional stands for what not every standard has."""

    burst: Cycles
    rl: Cycles
    wl: Cycles
    rcd_rd: Cycles
    rcd_wr: Cycles
    rp: Cycles
    ras: Cycles
    rc: Cycles
    wr: Cycles
    rtp: Cycles
    ccd_s: Cycles
    ccd_l: Cycles
    wtr_s: Cycles
    wtr_l: Cycles
    rrd_s: Cycles
    rrd_l: Cycles
    faw: Cycles
    rfc: Cycles
    refi: Cycles
    turnaround: Cycles
    ppd: Cycles | None = None
    rp_ab: Cycles | None = None
    ccd_l_wr: Cycles | None = None
    burst_l: Cycles | None = None
    rfc_pb: Cycles | None = None
    refi_pb: Cycles | None = None
    pb_to_act: Cycles | None = None
    pb_to_pb: Cycles | None = None
    aad: Cycles | None = None  # ACT1 to ACT2 at most: the activate is split
    wckpst: Cycles | None = None  # that the data clock runs on after a burst, before it must be started again


class ControllerSection(Section):
    """First-ready, first-come scheduling of row hits before misses (`device.RowHitFirst`)."""

    reads: Entries
    writes: Entries
    write_high: Fraction
    write_low: Fraction


class CurrentsSection(Section):
    """Data-sheet currents of one device, of which `devices` are in a rank."""

    devices: DeviceCount
    vdd: Voltage
    idd0: Current
    idd2n: Current
    idd3n: Current
    idd4r: Current
    idd4w: Current
    idd5ab: Current


class DeviceSection(Section):
    """A device file."""

    standard: Literal["DDR4", "DDR5", "LPDDR4X", "LPDDR5", "LPDDR5X", "HBM2", "HBM2E", "HBM3", "GDDR6"]
    title: str
    clock: Clock
    organisation: OrganisationSection
    map: MapSection
    timing: TimingSection
    controller: ControllerSection
    currents: CurrentsSection | None = None

    def channel(self, name: str) -> Channel:
        """Raises ValueError for an address map that does not fit the organisation."""
        o, p, c = self.organisation, self.timing, self.controller
        if (o.ranks is None) == (o.pseudo_channels is None):
            raise ValueError("organisation: expected either ranks or pseudo_channels")
        ranks = o.ranks or o.pseudo_channels
        assert ranks is not None
        sizes = (int(q) for q in (ranks, o.bank_groups, o.banks, o.rows, o.row, o.burst))
        organisation = Organisation(*sizes, pseudo_channels=o.ranks is None)
        numbers = {k: int(q) for k, q in ((k, getattr(p, k)) for k in Timing.__dataclass_fields__) if q is not None}
        timing = Timing(**numbers)
        offset = (organisation.burst_bytes - 1).bit_length()
        scheduling = RowHitFirst(int(c.reads), int(c.writes), float(c.write_high), float(c.write_low))
        clock_ps = 1e12 / float(self.clock)
        return Channel(
            name=name,
            clock_ps=clock_ps,
            organisation=organisation,
            address_map=AddressMap(offset, self.map.fields()),
            rules=rules(timing, organisation),
            scheduling=scheduling,
            refresh=Refresh("all_bank", timing.refi),
            read_latency=timing.rl,
            write_latency=timing.wl,
            burst_cycles=timing.burst,
            dual_issue=self.standard.startswith("HBM"),
            activate_window=int(p.aad) if p.aad is not None else 0,
            clock_sync_after=int(p.wckpst) if p.wckpst is not None else -1,
            energy=self._energy(timing, clock_ps),
        )

    def _energy(self, t: Timing, clock_ps: float) -> Energy | None:
        if self.currents is None:
            return None
        c = self.currents
        names = {
            "IDD0": c.idd0,
            "IDD2N": c.idd2n,
            "IDD3N": c.idd3n,
            "IDD4R": c.idd4r,
            "IDD4W": c.idd4w,
            "IDD5AB": c.idd5ab,
        }
        milliamperes = {name: float(q) * 1000 for name, q in names.items()}
        vdd, devices = float(c.vdd), int(c.devices)
        return Energy.of_currents(
            vdd, milliamperes, ras=t.ras, rp=t.rp, burst=t.burst, rfc=t.rfc, clock_ns=clock_ps / 1000, devices=devices
        )


def list_devices() -> list[str]:
    """Names of the devices that come with the package."""
    return sorted(p.stem for p in DEVICES.glob("*.toml"))


def read_device(path: Path) -> DeviceSection:
    """The section of a device file. Raises DeviceError."""
    try:
        return DeviceSection.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeviceError(f"{path}: no valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DeviceError(f"{path}: {place}: {first['msg'].removeprefix('Value error, ')}") from None


def load_device(name: str | Path) -> Channel:
    """A channel of a device by name, or from a TOML file. Raises DeviceError."""
    path = Path(name)
    if str(name) in list_devices():
        path = DEVICES / f"{name}.toml"
    elif not path.is_file():
        raise DeviceError(f"no DRAM device '{name}'; expected one of {', '.join(list_devices())}, or a .toml file")
    try:
        return read_device(path).channel(path.stem)
    except ValueError as error:
        raise DeviceError(f"{path}: {error}") from None
