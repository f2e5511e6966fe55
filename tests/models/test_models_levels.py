"""Whole networks at every level against PyTorch eager, on every choice of engines.

The full grid takes a quarter of an hour: `pytest -m slow tests/models`. A part of it runs by default.
"""

import functools
from pathlib import Path

import pytest
from tilewright.compiler.cli.run import F16_TOLERANCE, F32_TOLERANCE, compare
from tilewright.compiler.dialects import soc
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.frontend.examples import EXAMPLES
from tilewright.compiler.frontend.sources import load
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.interpret.conflicts import find_conflicts
from tilewright.compiler.pipeline import compile_module, copy_module
from tilewright.targets import load_target

HERE = Path(__file__).parent
TRANSFORMERS = ["resnet50", "mobilenetv2", "bert_base", "gpt2", "vit_base", "t5_small"]
SOURCES = [*EXAMPLES, *(f"{HERE / 'transformers_models.py'}:{name}" for name in TRANSFORMERS)]
RUN = {"graph": run_graph, "tile": run_tile, "soc": run_soc}
BY_DEFAULT = {"mobilenetv2", "unet", "t5_small"}


@functools.lru_cache(maxsize=1)
def loaded(source: str):
    program = load(source)
    return program, example_inputs(program), run_eager(program, "f32")


def cases():
    for source in SOURCES:
        name = Path(source).name.rpartition(":")[2]
        maker = "transformers-" if ":" in source else ""
        for engines in ("", "ane", "gpu", "cpu"):
            fast = name in BY_DEFAULT and engines in ("", "ane")
            yield pytest.param(
                source, engines, id=f"{maker}{name}-{engines or 'all'}", marks=[] if fast else pytest.mark.slow
            )


@pytest.mark.parametrize(("source", "engines"), list(cases()))
def test_every_level_gives_eager_numbers(source, engines):
    program, inputs, expected = loaded(source)
    target = load_target("m4")
    module = copy_module(program.module)
    for level in ("graph", "tile", "soc"):
        compile_module(module, target, tuple(filter(None, engines.split(","))), level)
        for arith, tolerance in (("f32", F32_TOLERANCE), ("native", F16_TOLERANCE)):
            outputs = RUN[level](module, inputs, arith)
            for i, (got, want) in enumerate(zip(outputs, expected, strict=True)):
                assert compare(str(i), got, want).relative_l2 < tolerance, (level, arith, i)
    assert not find_conflicts(module)


@pytest.mark.parametrize(
    "source", [s for s in SOURCES if s.endswith(("resnet50", "mobilenetv2", "vit_b16", "vit_base", "bert_base"))]
)
def test_the_neural_engine_alone_keeps_nearly_all_products(source):
    module = load(source, weights=False).module
    compile_module(module, load_target("m4"), ("ane",), "soc")
    work = {"ane": 0, "cpu": 0}
    for launch in module.main.body:
        if isinstance(launch, soc.Launch):
            work[launch.engine.name] += sum(t.macs for t in launch.tasks)
            if launch.engine.name == "cpu":
                assert all(t.reason for t in launch.tasks), "what leaves the neural engine says why"
    assert work["ane"] >= 0.95 * sum(work.values())
