"""Models that NNSmith makes up: a random graph of valid ops for each seed, the same one every time.

NNSmith (Liu et al., ASPLOS 2023) solves each op's shape constraints with z3, so every graph is well-typed. z3 and the
generator draw from global state; `generate` resets all of it, so a seed's model does not depend on what ran before.
Another version of z3 may solve the same constraints differently, and so make other models of the same seeds.

python tests/frontend/nnsmith_models.py 7 26    # what seeds 7 and 26 make
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import z3
from tilewright.compiler.frontend.export import quiet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks for pygraphviz, with which it would draw
    from nnsmith.abstract.dtype import DType
    from nnsmith.graph_gen import model_gen, set_z3_state
    from nnsmith.materialize.torch import TorchModelCPU
    from nnsmith.materialize.torch.input_gen import SamplingSearch
    from nnsmith.materialize.torch.symbolnet import SymbolNet
    from nnsmith.narrow_spec import infer_topset_from_scratch
    from nnsmith.util import set_seed

METHODS = ("symbolic", "symbolic-cinit", "concolic")
SIZES = (5, 8, 12, 16, 20)
FLOATS, INTEGERS = ("f32", "f16", "f64"), ("i64", "i32", "i8", "u8")
DTYPES = (("f32",), ("f32", *INTEGERS), FLOATS, (*FLOATS, *INTEGERS), ("f64", "i64"))
INPUT_DRAWS = 32
NO_TIMEOUT_MS = 10**7  # a limit of time would let the machine's load choose the model
SOLVER_STEPS = 2_000_000  # z3's own count of its work; a question that takes more counts as unanswerable


class Generated(NamedTuple):
    """A model, its inputs, and whether no value on the way to its outputs is infinite or NaN."""

    seed: int
    text: str
    model: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    finite: bool


class _Network(torch.nn.Module):
    """NNSmith's net without the checks of values that it makes in forward, which no export can trace."""

    def __init__(self, net: SymbolNet):
        super().__init__()
        self.layers = net.mlist
        self.instructions = net.instructions
        self.arguments, self.results = list(net.input_like), list(net.output_like)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = dict(zip(self.arguments, inputs, strict=True))
        for function, arguments, (result,), _ in self.instructions:
            values[result] = function(*(values[a] for a in arguments))
        return tuple(values[name] for name in self.results)


def generate(seed: int, sizes: Sequence[int] = SIZES) -> Generated:
    """The model of a seed. Successive seeds go through the sizes, the methods, the dtypes, and ops with and without a
    limited domain (division, logarithms, roots)."""
    dtypes = DTYPES[seed // 10 % len(DTYPES)]
    ops = _ops(dtypes, limited=seed % 2 == 1)
    _reset(seed)
    generator = model_gen(
        opset=ops,
        method=METHODS[seed % len(METHODS)],
        max_nodes=sizes[seed % len(sizes)],
        seed=seed,
        timeout_ms=NO_TIMEOUT_MS,
        dtype_choices=list(dtypes),
        max_elem_per_tensor=2**12,
    )
    set_seed(seed)
    graph = generator.make_concrete()
    net = TorchModelCPU.from_gir(graph).native_model.eval()
    with quiet():
        _, found = SamplingSearch(net).search(max_sample=INPUT_DRAWS)
    inputs = found or net.get_random_inps()
    return Generated(seed, graph.pretty(), _Network(net).eval(), tuple(inputs.values()), found is not None)


def _reset(seed: int) -> None:
    """Every state that a draw depends on; z3's context too, as the order of its symbols decides among solutions."""
    TorchModelCPU.add_seed_setter()
    set_seed(seed)
    z3.set_param("rlimit", SOLVER_STEPS)
    z3.z3._main_ctx = None
    set_z3_state(seed)


@cache
def _dtypes_of_ops() -> dict[Any, tuple[list[Any], list[Any]]]:
    """Each op and the dtypes that torch takes for it, as NNSmith finds them by trying."""
    _reset(0)
    ops = TorchModelCPU.operators()
    with quiet():  # it logs each dtype that torch refuses
        found = infer_topset_from_scratch(TorchModelCPU, None, ops)
    return {op: (sorted(c.in_dtypes, key=str), sorted(c.out_dtypes, key=str)) for op in ops if (c := found[op.name()])}


def _ops(dtypes: Sequence[str], limited: bool) -> list[Any]:
    """The ops that there are over these dtypes and bool."""
    allowed = {DType.from_str(name) for name in dtypes} | {DType.bool}
    kept = []
    for op, (takes, gives) in _dtypes_of_ops().items():
        op.in_dtypes = [each for each in takes if allowed.issuperset(each)]
        op.out_dtypes = [each for each in gives if allowed.issuperset(each)]
        if op.in_dtypes and op.out_dtypes and (limited or not op.limit_domain):
            kept.append(op)
    return kept


def digest(generated: Generated) -> str:
    """A hash of everything that a seed decides."""
    total = hashlib.sha256(generated.text.encode())
    for tensor in (*generated.model.state_dict().values(), *generated.inputs):
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    for made in map(generate, map(int, sys.argv[1:])):
        print(made.text, "finite" if made.finite else "not finite", digest(made), sep="\n")
