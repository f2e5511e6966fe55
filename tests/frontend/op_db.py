"""PyTorch's own operator database as a test: each fp32 sample of each op, exported, imported, run, held against eager.

python tests/frontend/op_db.py graph            # the share of samples that pass, and each op that fails, as TOML
python tests/frontend/op_db.py soc --tenth      # the fixed random tenth, through all passes
python tests/frontend/op_db.py graph --tenth --dtype int64      # of the samples in another dtype
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import re
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tilewright.compiler.frontend.complex_tensors import pairs
from tilewright.compiler.frontend.importer import import_program
from tilewright.compiler.interpret import run_graph, run_soc
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree

FAILURES = Path(__file__).with_name("op_db_failures.toml")
SEED = 20240607
Array = np.ndarray[Any, Any]

# Ops whose results are memory that nobody wrote.
UNDEFINED = ("empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided", "empty_permuted")
# Ops that draw random numbers in training alone, or where a probability is neither 0 nor 1.
SOMETIMES_RANDOM = ("dropout", "attention", "rrelu", "multi_head")


TOLERANCES = {torch.float16: 1e-2, torch.bfloat16: 3e-2}  # of all others 1e-4


class Sample(NamedTuple):
    """One call of an op: a function of the tensors among its arguments, and those tensors."""

    name: str
    index: int
    model: torch.nn.Module
    inputs: list[torch.Tensor]


class NotComparable(Exception):  # noqa: N818
    """A sample that says nothing: torch.export refuses it, its shapes depend on data, or eager has no one answer."""


class _Call(torch.nn.Module):
    def __init__(self, function: Any, leaves: list[Any], spec: Any):
        super().__init__()
        self.function, self.leaves, self.spec = function, leaves, spec

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        leaves = [next(given) if isinstance(x, torch.Tensor) else x for x in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.function(*args, **kwargs)


@cache
def entries(dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The ops that take this dtype on a CPU, by name and variant."""
    found = {}
    for op in op_db:
        if dtype in op.supported_dtypes("cpu"):
            found[f"{op.name}:{op.variant_test_name}" if op.variant_test_name else op.name] = op
    return found


def samples(name: str, dtype: torch.dtype = torch.float32) -> Iterator[Sample]:
    torch.manual_seed(0)
    op = entries(dtype)[name]
    for i, s in enumerate(op.sample_inputs("cpu", dtype, requires_grad=False)):
        leaves, spec = pytree.tree_flatten(((s.input, *s.args), dict(s.kwargs)))
        inputs = [x for x in leaves if isinstance(x, torch.Tensor)]
        yield Sample(name, i, _Call(op.op, leaves, spec).eval(), inputs)


def in_tenth(sample: Sample) -> bool:
    return random.Random(f"{SEED} {sample.name} {sample.index}").random() < 0.1


def check(sample: Sample, level: str) -> str | None:
    """What is wrong with the sample at this level; None if it agrees with eager. Raises NotComparable."""
    program, expected, changed = _exported(sample)
    try:
        arrays = [_array(t) for t in sample.inputs]
        module = import_program(program)
        aliases = module.main.attributes.get("aliases", ())
        results = (*expected, *(changed[a] for a in aliases[1::2]))
        wanted = [_array(t) for t in results]
        arith = "f32" if any(t.dtype == torch.bfloat16 for t in (*sample.inputs, *results)) else "native"
        if level == "soc":
            compile_module(module, _m4(), ("ane", "gpu", "cpu"), "soc")
            got = run_soc(module, arrays, arith)
        else:
            got = run_graph(module, arrays, arith)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {' '.join(lines[:2])}"
    if len(got) != len(wanted):
        return f"{len(got)} results, eager has {len(wanted)}"
    if sample.name in FACTORS and [a.shape for a in got] == [a.shape for a in wanted]:
        got, wanted = FACTORS[sample.name](*got), FACTORS[sample.name](*wanted)
    coarsest = max((TOLERANCES.get(t.dtype, 1e-4) for t in sample.inputs), default=1e-4)
    for a, b, like in zip_longest(got, wanted, results[: len(wanted)]):
        why = _difference(a, b, max(coarsest, 1e-4 if like is None else TOLERANCES.get(like.dtype, 1e-4)))
        if why:
            return why
    return None


def _of_svd(u: Array, s: Array, vh: Array) -> list[Array]:
    """The product, the singular values, and the products of the vectors among themselves."""
    k = s.shape[-1]
    return [u[..., :k] * s[..., None, :] @ vh[..., :k, :], s, _gram(u), _gram(vh.swapaxes(-1, -2))]


def _of_eigh(values: Array, vectors: Array) -> list[Array]:
    return [vectors * values[..., None, :] @ vectors.swapaxes(-1, -2), values, _gram(vectors)]


def _gram(vectors: Array) -> Array:
    return vectors.swapaxes(-1, -2) @ vectors


# Singular vectors and eigenvectors are unique but for signs, those of equal values but for a rotation. LAPACK chooses;
# what is compared is the same for every choice.
FACTORS: dict[str, Callable[..., list[Array]]] = {
    "linalg.svd": _of_svd,
    "svd": lambda u, s, v: _of_svd(u, s, v.swapaxes(-1, -2)),
    "linalg.eigh": _of_eigh,
}


@cache
def _m4() -> Any:
    return load_target("m4")


def _exported(sample: Sample) -> tuple[Any, list[torch.Tensor], list[torch.Tensor]]:
    """The exported program, eager's results, and what eager left in the inputs."""
    if sample.name in UNDEFINED:
        raise NotComparable("its results are memory that nobody wrote")
    inputs = [t.clone() for t in sample.inputs]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = [t.clone() for t in _tensors(sample.model(*inputs))]
            program = torch.export.export(sample.model, tuple(t.clone() for t in sample.inputs), strict=False)
    except Exception as error:
        raise NotComparable(f"torch.export: {error}") from error
    if not expected:
        raise NotComparable("it gives no tensor")
    for node in program.graph.nodes:
        for value in pytree.tree_leaves(node.meta.get("val")):
            sizes = value.shape if isinstance(value, torch.Tensor) else (value,)
            if any(isinstance(n, torch.SymInt) for n in sizes):
                raise NotComparable("its shapes depend on data")
    if _is_random(program, sample):
        raise NotComparable("it draws random numbers")
    return program, expected, inputs


def _is_random(program: Any, sample: Sample) -> bool:
    drawing = [
        str(n.target)
        for n in program.graph.nodes
        if isinstance(n.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in n.target.tags
    ]
    if any(not any(word in name for word in SOMETIMES_RANDOM) for name in drawing):
        return True
    results = []
    for seed in (1, 2, 3) if drawing else ():
        torch.manual_seed(seed)
        with torch.no_grad():
            results.append(_tensors(program.module()(*(t.clone() for t in sample.inputs))))
    return any(not torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [t for t in pytree.tree_leaves(tree) if isinstance(t, torch.Tensor)]


def _array(tensor: torch.Tensor) -> Array:
    tensor = pairs(tensor.detach().resolve_conj().resolve_neg())
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _difference(got: Array, wanted: Array, tolerance: float) -> str | None:
    """Integers must be equal; floats to the tolerance times the element, and a tenth of that of the largest one."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return f"{got.dtype}{got.shape}, eager has {wanted.dtype}{wanted.shape}"
    if wanted.dtype.kind in "iub":
        return None if np.array_equal(got, wanted) else f"{(got != wanted).sum()} of {wanted.size} integers differ"
    largest = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0))
    close = np.isclose(got, wanted, rtol=tolerance, atol=0.1 * tolerance * min(largest, 1e30), equal_nan=True)
    return None if close.all() else f"{(~close).sum()} of {close.size} differ"


@cache
def known_failures() -> dict[str, str]:
    """Op -> why some of its samples fail."""
    return tomllib.loads(FAILURES.read_text())


class Tally:
    """Samples that passed and failed, by op."""

    def __init__(self) -> None:
        self.passed = self.failed = self.excluded = 0
        self.reasons: dict[str, str] = {}

    def add(self, sample: Sample, level: str) -> None:
        try:
            why = check(sample, level)
        except NotComparable:
            self.excluded += 1
            return
        if why is None:
            self.passed += 1
        else:
            self.failed += 1
            self.reasons.setdefault(sample.name, f"sample {sample.index}: {re.sub(r'  +', ' ', why)[:200]}")

    @property
    def rate(self) -> float:
        return self.passed / max(self.passed + self.failed, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("level", choices=("graph", "soc"))
    parser.add_argument("--tenth", action="store_true")
    parser.add_argument("--shard", default="0/1", help="which part of the ops: 0/2 or 1/2")
    parser.add_argument("--dtype", default="float32", help="torch's name of the inputs' dtype: bfloat16, int64, bool")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    shard, shards = map(int, options.shard.split("/"))
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    tally = Tally()
    for name in list(entries(dtype))[shard::shards]:
        before = (tally.passed, tally.failed)
        for sample in samples(name, dtype):
            if not options.tenth or in_tenth(sample):
                tally.add(sample, options.level)
        print(name, tally.passed - before[0], tally.failed - before[1], file=sys.stderr, flush=True)
    counts = f"{tally.passed} of {tally.passed + tally.failed} samples pass: {tally.rate:.2%}"
    print(f"# {options.level}, {options.dtype}: {counts}; {tally.excluded} are not comparable")
    for name, why in sorted(tally.reasons.items()):
        print(f"{json.dumps(name)} = {json.dumps(why)}")


if __name__ == "__main__":
    main()
