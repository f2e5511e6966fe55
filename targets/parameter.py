"""One hardware parameter: a value, its unit, where it comes from, and how far to trust it.

    clock = { value = 1.464, unit = "GHz", source = "ANEForge cost model, H13", confidence = "B" }

A section of a target file is a `Section` whose fields are `Quantity` with a `Measure` that says what is measured, in
which units, and which values make sense:

    class Parameters(Section):
        clock: Annotated[Quantity, CLOCK]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, PrivateAttr
from pydantic_core import CoreSchema, core_schema

Confidence = Literal["A", "B", "C", "assumed"]  # the maker's own, open raw data, community, or a stated assumption

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "n": 1e-9, "p": 1e-12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_PREFIXES = {**_DECIMAL, **_BINARY}
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\s\d].*?)?\s*")


@dataclass(frozen=True)
class Measure:
    """What a parameter measures: its name, base unit, the units that may be written, and the range that makes sense."""

    name: str
    base: str
    units: tuple[tuple[str, float], ...]  # (unit, how many base units it is)
    low: float
    high: float = float("inf")
    whole: bool = False  # only whole numbers

    @property
    def expected(self) -> str:
        return ", ".join(u for u, _ in self.units)

    def scale(self, unit: str) -> float:
        """How many base units `unit` is. Raises ValueError with the units that would do."""
        for name, factor in self.units:
            if name == unit:
                return factor
        raise ValueError(f"'{unit}' is no unit of a {self.name}; expected {self.expected}")

    def check(self, quantity: Quantity) -> Quantity:
        """Binds a quantity to this measure. Raises ValueError for a wrong unit or a value out of range."""
        base = quantity.value * self.scale(quantity.unit)
        if not self.low <= base <= self.high:
            shown = f"{quantity.value:g} {quantity.unit}"
            limits = f"at least {self.low:g} {self.base}" if base < self.low else f"at most {self.high:g} {self.base}"
            raise ValueError(f"{shown} makes no sense as a {self.name}; expected {limits}")
        if self.whole and base != int(base):
            raise ValueError(f"{quantity.value:g} is no {self.name}; expected a whole number")
        quantity._measure = self
        return quantity

    def parse(self, text: str) -> tuple[float, str]:
        """(value, unit) from `120e9`, `2MiB`, `1.5 GHz`, `120G`. A bare number is in the base unit."""
        match = _NUMBER.fullmatch(text)
        if match:
            value, suffix = float(match[1]), match[2] or self.base
            if any(suffix == unit for unit, _ in self.units):
                return value, suffix
            if suffix in _PREFIXES:
                return value * _PREFIXES[suffix], self.base
        expected = f"expected a number, then nothing or one of {self.expected}"
        raise ValueError(f"cannot read '{text}' as a {self.name}; {expected}")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


def measure(name: str, base: str, low: float = 0.0, high: float = float("inf"), prefixes: str = "") -> Measure:
    """A measure whose unit takes the given prefixes, e.g. `"k M G"`."""
    return Measure(name, base, tuple((p + base, _PREFIXES[p]) for p in ["", *prefixes.split()]), low, high)


def count(noun: str, high: float = 1e9) -> Measure:
    """A number of things, at least one."""
    return Measure(f"number of {noun}", noun, ((noun, 1.0),), 1.0, high, whole=True)


_TIMES = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("ps", 1e-12))
CLOCK = measure("clock", "Hz", 1e6, 1e11, "k M G")
BYTES = measure("size", "B", 1, 1e15, "k M G Ki Mi Gi")
BANDWIDTH = measure("bandwidth", "B/s", 1e6, 1e15, "k M G T Ki Mi Gi")
TIME = Measure("time", "s", _TIMES, 0.0, 1.0)
FRACTION = Measure("fraction", "fraction", (("fraction", 1.0), ("%", 0.01)), 1e-6, 1.0)
CYCLES = measure("number of cycles", "cycles", 0.0, 1e9)
MACS_PER_CYCLE = measure("rate", "MAC/cycle", 1e-3, 1e9)
ELEMENTS_PER_CYCLE = measure("rate", "elements/cycle", 1e-3, 1e9)
BYTES_PER_CYCLE = measure("rate", "B/cycle", 1e-3, 1e9)
POWER = Measure("power", "W", (("W", 1.0), ("mW", 1e-3), ("uW", 1e-6)), 0.0, 1e4)


def energy(base: str, high: float) -> Measure:
    """An energy, or one per thing: `energy("J/MAC", 1e-8)`. At most `high` joules."""
    prefixes = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
    return Measure("quantity of energy", base, tuple((p + base, factor) for p, factor in prefixes.items()), 0.0, high)


class Quantity(BaseModel):
    """A number with its unit, source and confidence. `float(q)` and `int(q)` are in base units (B, B/s, Hz, s)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    value: float = Field(strict=True)
    unit: str
    source: str = Field(min_length=3)
    confidence: Confidence
    _measure: Measure | None = PrivateAttr(None)

    @property
    def measure(self) -> Measure:
        assert self._measure is not None, "a quantity is bound to its measure when its section is read"
        return self._measure

    def __float__(self) -> float:
        return self.value * self.measure.scale(self.unit)

    def __int__(self) -> int:
        return round(float(self))

    @property
    def ps(self) -> int:
        """A time in picoseconds."""
        return round(float(self) * 1e12)

    @property
    def pj(self) -> float:
        """An energy in picojoules."""
        return float(self) * 1e12

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"


class Names(BaseModel):
    """A list of names (dtypes, ops, formats of weights, kernels of a library, DRAM devices) with its source
    and confidence."""

    SHOWN: ClassVar[int] = 6  # names that a text has room for
    model_config = ConfigDict(extra="forbid", frozen=True)
    value: tuple[str, ...]
    unit: Literal["dtypes", "ops", "formats", "kernels", "devices"]
    source: str = Field(min_length=3)
    confidence: Confidence

    def __str__(self) -> str:
        shown, rest = self.value[: self.SHOWN], len(self.value) - self.SHOWN
        return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "") if shown else "none"


class Section(BaseModel):
    """A table of a target file: parameters and further sections."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def parameters(self, prefix: str = "") -> Iterator[tuple[str, Quantity | Names]]:
        """(dotted path, parameter) of everything in this section, in the order of its declaration."""
        for name in type(self).model_fields:
            yield from _parameters(f"{prefix}{name}", getattr(self, name))


def _parameters(path: str, value: Any) -> Iterator[tuple[str, Quantity | Names]]:
    if isinstance(value, (Quantity, Names)):
        yield path, value
    elif isinstance(value, Section):
        yield from value.parameters(f"{path}.")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _parameters(f"{path}.{key}", item)


# What the sections of all engines and memories are made of.
Clock = Annotated[Quantity, CLOCK]
Bytes = Annotated[Quantity, BYTES]
Bandwidth = Annotated[Quantity, BANDWIDTH]
Time = Annotated[Quantity, TIME]
Fraction = Annotated[Quantity, FRACTION]
Cycles = Annotated[Quantity, CYCLES]
MacsPerCycle = Annotated[Quantity, MACS_PER_CYCLE]
ElementsPerCycle = Annotated[Quantity, ELEMENTS_PER_CYCLE]
BytesPerCycle = Annotated[Quantity, BYTES_PER_CYCLE]
Cores = Annotated[Quantity, count("cores", 1e5)]
Power = Annotated[Quantity, POWER]
Energy = Annotated[Quantity, energy("J", 1.0)]
EnergyPerMac = Annotated[Quantity, energy("J/MAC", 1e-8)]
EnergyPerOperation = Annotated[Quantity, energy("J/op", 1e-8)]
EnergyPerByte = Annotated[Quantity, energy("J/B", 1e-8)]
