"""Runs NNSmith's models through the compiler and holds the soc level against eager.

python tests/frontend/nnsmith_check.py 0 200                    # the summary over these seeds
python tests/frontend/nnsmith_check.py 1000 1300 --sizes 30,40  # bigger graphs
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from nnsmith_models import SIZES, Generated, generate
from tilewright.compiler.frontend.errors import ExportFailed
from tilewright.compiler.frontend.export import export
from tilewright.compiler.frontend.importer import import_program
from tilewright.compiler.interpret import run_soc
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target
from torch.utils import _pytree as pytree

Array = np.ndarray[Any, Any]

NOISE_DRAWS = 8


class Precision(NamedTuple):
    """What sums in another order may change."""

    tolerance: float  # of an element; and a tenth of it, of the largest element
    noise: float  # relative, on every float result: about what sums of this size differ by


F32, F64 = Precision(1e-4, 1e-6), Precision(1e-10, 1e-14)


class Verdict(NamedTuple):
    """What became of a seed's model. `outcome` is one of

    "agrees": every output is eager's;
    "no export": torch.export refuses it;
    "no one answer": an output differs, and eager's own differs as much under noise of a rounding error's size (an
    argmax of near ties, a floor of nearly an integer);
    "fails": anything else.
    """

    seed: int
    outcome: str
    why: str = ""


class Reference(torch.fx.Interpreter):
    """The exported program by PyTorch, f16 widened to f32 as in the arith "f32"; `noise` on each float."""

    def __init__(self, program: torch.export.ExportedProgram, noise: float = 0.0, seed: int = 0):
        super().__init__(program.module())
        self.noise, self.generator = noise, torch.Generator().manual_seed(seed)

    def outputs(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            return [t.detach() for t in pytree.tree_leaves(self.run(*_widened(inputs)))]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return _widened(super().get_attr(target, args, kwargs))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        return None  # the guards on the inputs, which are f16

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        result = super().call_function(target, *_widened((args, kwargs)))
        return pytree.tree_map(self._disturbed, result) if self.noise else result

    def _disturbed(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        uniform = torch.rand(value.shape, generator=self.generator, dtype=torch.float64) * 2 - 1
        return (value * (1 + self.noise * uniform)).to(value.dtype)


def _widened(tree: Any) -> Any:
    def widen(x: Any) -> Any:
        if x is torch.float16:
            return torch.float32
        return x.float() if isinstance(x, torch.Tensor) and x.dtype == torch.float16 else x

    return pytree.tree_map(widen, tree)


def check(generated: Generated) -> Verdict:
    """Exports, imports, compiles for the m4 and runs the model at the soc level in f32 arithmetic."""
    seed, _, model, inputs, _ = generated
    try:
        program = export(model, inputs, {})
    except ExportFailed as error:
        return Verdict(seed, "no export", str(error).splitlines()[0])
    expected = [t.numpy() for t in Reference(program).outputs(inputs)]
    try:
        module = import_program(program)
        compile_module(module, _m4())
        got = run_soc(module, [t.numpy() for t in inputs], "f32")
    except Exception as error:
        return Verdict(seed, "fails", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    if len(got) != len(expected):
        return Verdict(seed, "fails", f"{len(got)} outputs, eager has {len(expected)}")
    precision = _precision(program)
    pairs = enumerate(zip(got, expected, strict=True))
    wrong = {i: why for i, (a, b) in pairs if (why := difference(a, b, precision.tolerance))}
    if not wrong:
        return Verdict(seed, "agrees")
    told = "; ".join(f"output {i}: {why}" for i, why in wrong.items())
    noisy = [Reference(program, precision.noise, draw).outputs(inputs) for draw in range(NOISE_DRAWS)]
    explained = [
        _explained(got[i], expected[i], [draw[i].numpy() for draw in noisy], precision.tolerance) for i in wrong
    ]
    return Verdict(seed, "no one answer" if all(explained) else "fails", told)


def _precision(program: torch.export.ExportedProgram) -> Precision:
    """That of the narrowest float that a value of the program has."""
    values = pytree.tree_leaves([node.meta.get("val") for node in program.graph.nodes])
    dtypes = {v.dtype for v in values if isinstance(v, torch.Tensor)}
    return F32 if dtypes & {torch.float16, torch.float32} else F64


def difference(got: Array, expected: Array, tolerance: float) -> str | None:
    """What is wrong: integers must be equal, floats close, infinities and NaN in their places. None if nothing is."""
    if (got.shape, got.dtype) != (expected.shape, expected.dtype):
        return f"{got.dtype}{got.shape}, eager has {expected.dtype}{expected.shape}"
    far = ~_close(got, expected, tolerance)
    if not far.any():
        return None
    at = tuple(int(i) for i in np.argwhere(far)[0])
    return f"{far.sum()} of {far.size} differ, at {at} {got[at]} and not {expected[at]}"


def _close(got: Array, expected: Array, tolerance: float) -> Array:
    if expected.dtype.kind in "iub":
        return got == expected
    largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    return np.isclose(got, expected, rtol=tolerance, atol=0.1 * tolerance * largest, equal_nan=True)


def _explained(got: Array, expected: Array, noisy: list[Array], tolerance: float) -> bool:
    """Whether noise moves every element that differs about as far as it is off."""
    far = ~_close(got, expected, tolerance)
    with np.errstate(invalid="ignore"):
        values = np.stack([expected, *noisy])[:, far].astype(np.float64)
        low, high = values.min(axis=0), values.max(axis=0)
        reach = 2 * (high - low)  # NaN where a draw gave NaN or all of them infinities
        within = (reach > 0) & (got[far] >= low - reach) & (got[far] <= high + reach)
    comes_and_goes = np.isnan(values).any(axis=0) & ~np.isnan(values).all(axis=0)
    return bool((within | comes_and_goes).all())


@cache
def _m4() -> Any:
    return load_target("m4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    options = parser.parse_args()
    sizes = [int(n) for n in options.sizes.split(",")]
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    for seed in range(options.first, options.end):
        generated = generate(seed, sizes)
        verdict = check(generated)
        counts[verdict.outcome] += 1
        counts["finite"] += generated.finite
        if verdict.outcome != "agrees":
            print(*verdict, sep="\t", flush=True)
    print(dict(counts), file=sys.stderr)


if __name__ == "__main__":
    main()
