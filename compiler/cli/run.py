"""`tilewright run`: executes a level of the program with numpy, and compares it with the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Arith, DimOption, Dtype, DtypeOption, EnginesOption, Level, SourceArg, TargetOption, TrustOption
from .output import Progress, console

if TYPE_CHECKING:
    import numpy as np
    from tilewright.compiler.frontend.sources import Loaded
    from tilewright.compiler.ir import Module

    Array = np.ndarray[Any, Any]

F32_TOLERANCE = 1e-4  # relative L2: sums in another order
F16_TOLERANCE = 2e-2  # relative L2: every op's result rounded to 11 bits


@dataclass(frozen=True, slots=True)
class Difference:
    """An output against what it should be: largest absolute error, and error over expected in the L2 norm."""

    name: str
    shape: tuple[int, ...]
    max_abs: float
    relative_l2: float


def run(
    source: SourceArg,
    target: TargetOption,
    level: Annotated[Level, typer.Option("--level", help="The level to execute.")] = Level.SOC,
    check: Annotated[bool, typer.Option("--check", help="Compare with PyTorch eager; exit 1 on a mismatch.")] = False,
    arith: Annotated[
        Arith,
        typer.Option("--arith", help="f32: every float widened, so that a wrong index is not taken for rounding."),
    ] = Arith.NATIVE,
    engines: EnginesOption = None,
    dtype: DtypeOption = Dtype.F16,
    dim: DimOption = None,
    trust: TrustOption = False,
) -> None:
    """Execute the program at a level on random inputs; --check compares every output with PyTorch eager.

    The reference runs in f32 with the same weights and inputs, rounded to the dtype. IR text has no model; its
    reference is the text as it was read, executed in f32.
    """
    from .program import compile_program, load_hardware, load_program

    progress = Progress()
    hardware, usable = load_hardware(target, engines)
    loaded = load_program(source, dtype.value, dim, progress, weights=True, trust=trust)
    inputs = _inputs(loaded)
    expected: list[Array] = []
    if check:
        with progress.phase("reference", "running the reference"):
            expected = _reference(loaded, inputs)
    names = _output_names(loaded.module)
    compile_program(loaded.module, hardware, usable, level.value, progress)
    with progress.phase("run", f"running the {level.value} level"):
        outputs = _execute(loaded.module, inputs, arith.value)
    if not check:
        _print_outputs(names, outputs)
        return
    tolerance = F32_TOLERANCE if Arith.F32 in (arith, dtype) or dtype is Dtype.F32 else F16_TOLERANCE
    differences = [compare(*each) for each in zip(names, outputs, expected, strict=True)]
    _print_differences(differences, tolerance)
    if not all(d.relative_l2 <= tolerance for d in differences):  # a NaN is no match
        raise typer.Exit(1)


def compare(name: str, actual: Array, expected: Array) -> Difference:
    """NaN where either has a value that the other lacks; infinities match themselves."""
    import numpy as np

    a, e = actual.astype(np.float64), expected.astype(np.float64)
    same = (a == e) | (np.isnan(a) & np.isnan(e))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, a - e)
        norm = float(np.linalg.norm(np.where(same & ~np.isfinite(e), 0.0, e)))
    size = float(np.linalg.norm(error))
    relative = size / norm if norm else (0.0 if size == 0.0 else float("inf"))
    return Difference(name, actual.shape, float(np.abs(error).max(initial=0.0)), relative)


def _inputs(loaded: Loaded) -> list[Array]:
    """The model's example inputs; random ones for IR text."""
    import numpy as np
    from tilewright.compiler.frontend.eager import example_inputs
    from tilewright.compiler.interpret import numpy_dtype

    if loaded.model is not None:
        return example_inputs(loaded)
    rng = np.random.default_rng(0)
    types = _input_types(loaded.module)
    return [
        rng.standard_normal(t.shape).astype(numpy_dtype(t.dtype))
        if t.dtype[0] in "fb"
        else rng.integers(0, 2, t.shape).astype(numpy_dtype(t.dtype))
        for t in types
    ]


def _input_types(module: Module) -> list[Any]:
    """The shaped types of the inputs: arguments of main, or at the soc level the buffers that say so."""
    from tilewright.compiler.dialects import soc

    if module.main.args:
        return [a.type for a in module.main.args]
    buffers = [op for op in module.main.body if isinstance(op, soc.Buffer) and op.role == "input"]
    return [b.result.type for b in sorted(buffers, key=lambda b: b.index)]


def _reference(loaded: Loaded, inputs: Sequence[Array]) -> list[Array]:
    from tilewright.compiler.frontend.eager import run_eager

    return run_eager(loaded, "f32") if loaded.model is not None else _execute(loaded.module, inputs, "f32")


def _execute(module: Module, inputs: Sequence[Array], arith: Any) -> list[Array]:
    from tilewright.compiler.interpret import run_graph, run_soc, run_tile
    from tilewright.compiler.pipeline import level_of

    return {"graph": run_graph, "tile": run_tile, "soc": run_soc}[level_of(module)](module, inputs, arith)


def _output_names(module: Module) -> list[str]:
    """`output 0`, or the name of the state whose new contents the output is."""
    main = module.main
    names = [f"output {i}" for i in range(len(main.outputs))]
    aliases = main.attributes.get("aliases", ())
    for output, argument in zip(aliases[::2], aliases[1::2], strict=True):
        if argument < len(main.args):
            names[output] = str(main.args[argument].name or names[output])
    return names


def _print_differences(differences: Sequence[Difference], tolerance: float) -> None:
    from rich.text import Text
    from tilewright.compiler.report import make_table

    table = make_table("output", "shape", ">max abs error", ">relative L2 error", "")
    for d in differences:
        verdict = "ok" if d.relative_l2 <= tolerance else Text("MISMATCH", "bold red")
        table.add_row(d.name, _shape(d.shape), f"{d.max_abs:.3e}", f"{d.relative_l2:.3e}", verdict)
    out = console()
    out.print(table)
    wrong = sum(not d.relative_l2 <= tolerance for d in differences)
    verdict = f"{wrong} of {len(differences)} outputs differ" if wrong else "all outputs match"
    out.print(f"{verdict}: relative L2 error against a tolerance of {tolerance:g}")


def _print_outputs(names: Sequence[str], outputs: Sequence[Array]) -> None:
    import numpy as np
    from tilewright.compiler.report import make_table

    table = make_table("output", "shape", ">mean", ">deviation", ">least", ">greatest")
    for name, array in zip(names, outputs, strict=True):
        x = array.astype(np.float64)
        cells = [f"{f(x):.6g}" for f in (np.mean, np.std, np.min, np.max)] if x.size else ["-"] * 4
        table.add_row(name, _shape(array.shape), *cells)
    console().print(table)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
