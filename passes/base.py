"""What a pass is, how it is found by name, and how a pipeline's text is read.

    @register_pass
    @dataclass(frozen=True)
    class DropIdentities(Pass):
        '''One line of what it does.'''

        @rule(P(graph.Cast, "x"))
        def same_dtype(self, rw, op, x): ...

A pass is a frozen dataclass: its fields are its options, `drop-identities{max=3}` on the command line. It either has
rules, or overrides `run`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from tilewright.compiler.ir import Module
from tilewright.compiler.ir.near_match import near
from tilewright.compiler.ir.rewriter import LogEntry, P, Rule, apply_rules

if TYPE_CHECKING:
    from tilewright.targets import Target

    from .planner import Planner
    from .tiling import Plan


class PassError(Exception):
    """A pipeline that cannot be built or run as asked: the message is for the user."""


@dataclass
class PassContext:
    """What passes may ask: the target, which engines may be used, and where to log."""

    target: Target | None = None
    engines: tuple[str, ...] = ()  # empty: all of the target's
    log: list[LogEntry] = field(default_factory=list)

    _planners: dict[tuple[int, Module], Planner] = field(default_factory=dict)
    _plans: dict[tuple[object, ...], Plan | None] = field(default_factory=dict)

    def planner(self, slots: int, module: Module) -> Planner:
        """Plans of the module's loops on the target's engines, kept from one pass to the next."""
        from .planner import Planner

        if (slots, module) not in self._planners:
            assert self.target is not None
            self._planners[slots, module] = Planner(self.target, module, slots, self._plans)
        return self._planners[slots, module]

    def forget(self, module: Module) -> None:
        """The module has changed: what its planners know of it is no longer true."""
        self._planners = {key: planner for key, planner in self._planners.items() if key[1] is not module}

    def trial(self) -> PassContext:
        """The same for passes on a copy of the module, whose log is not kept."""
        return replace(self, log=[], _planners={})

    def need_target(self, pass_name: str) -> Target:
        if self.target is None:
            raise PassError(f"the pass '{pass_name}' needs a target: pass --target")
        return self.target

    def usable(self) -> tuple[str, ...]:
        """Engines that may be used, in the user's order of preference."""
        assert self.target is not None
        return self.engines or tuple(self.target.engines)


@dataclass(frozen=True)
class Pass:
    """Base of passes. `name` is the class name in kebab case."""

    name: ClassVar[str] = ""
    rules: ClassVar[list[tuple[str, P, str]]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()
        cls.rules = [(f"{cls.name}.{k}", v.pattern, k) for k, v in vars(cls).items() if hasattr(v, "pattern")]

    def run(self, module: Module, context: PassContext) -> None:
        """Changes the module in place."""
        apply_rules(
            module, [(name, pattern, getattr(self, method)) for name, pattern, method in self.rules], context.log
        )

    def __str__(self) -> str:
        options = [
            f"{f.name}={getattr(self, f.name)}" for f in dataclasses.fields(self) if getattr(self, f.name) != f.default
        ]
        return f"{self.name}{{{' '.join(options)}}}" if options else self.name


def rule(pattern: P) -> Callable[[Rule], Rule]:
    """Marks a method of a pass as a rewrite: called as `method(rewriter, op, **bindings)` where the pattern matches."""

    def mark(method: Rule) -> Rule:
        method.pattern = pattern  # type: ignore[attr-defined]
        return method

    return mark


REGISTRY: dict[str, type[Pass]] = {}
AnyPass = TypeVar("AnyPass", bound=Pass)


def register_pass(cls: type[AnyPass]) -> type[AnyPass]:
    REGISTRY[cls.name] = cls
    return cls


_ITEM = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:\{([^{}]*)\})?\s*(?:,|$)")


def parse_pipeline(text: str) -> list[Pass]:
    """Reads `canonicalize,fuse{max_ops=3 attention=false}`. Raises PassError with a near match for an unknown name."""
    passes: list[Pass] = []
    at = 0
    while at < len(text):
        item = _ITEM.match(text, at)
        if item is None:
            raise PassError(f"cannot read the pipeline at '{text[at:]}'; write name,name{{option=value}},...")
        passes.append(_build(item[1].replace("_", "-"), item[2] or ""))
        at = item.end()
    return passes


def _build(name: str, options: str) -> Pass:
    cls = REGISTRY.get(name)
    if cls is None:
        raise PassError(f"unknown pass '{name}'{near(name, REGISTRY)}; known: {', '.join(sorted(REGISTRY))}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for part in re.split(r"[\s,]+", options.strip()):
        if not part:
            continue
        key, eq, value = part.partition("=")
        if key not in fields or not eq:
            raise PassError(
                f"pass '{name}' has no option '{key}'{near(key, fields)}; it takes: {', '.join(fields) or 'none'}"
            )
        values[key] = _convert(name, key, value, fields[key].default)
    return cls(**values)


def _convert(name: str, key: str, value: str, default: Any) -> Any:
    if isinstance(default, bool):
        if value not in ("true", "false"):
            raise PassError(f"option '{key}' of pass '{name}' is true or false, not '{value}'")
        return value == "true"
    try:
        return type(default)(value)
    except ValueError:
        raise PassError(f"option '{key}' of pass '{name}' takes {type(default).__name__}, not '{value}'") from None
