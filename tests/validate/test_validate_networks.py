"""Networks by the names of the tables: their published multiply-accumulates, and a whole run."""

import io
import re
import sys
from pathlib import Path

import pytest
from optional_packages import wanted
from rich.console import Console
from tilewright.compiler.cli.output import PIPE_WIDTH
from tilewright.compiler.cli.validate import print_report
from tilewright.compiler.dialects.graph import GraphOp
from tilewright.compiler.validate import Options, validate
from tilewright.compiler.validate.networks import NETWORKS, find_network
from tilewright.compiler.validate.packages import MissingDefinition
from tilewright.compiler.validate.precision import find_precision
from tilewright.compiler.validate.price import NotPriced
from tilewright.compiler.validate.provide import Networks
from tilewright.targets.validation import TABLES, find_tables
from tilewright.targets.validation.workloads import Generation, Network, Programs

README = Path(__file__).parent.parent.parent / "README.md"
GMACS = {  # as their authors give them
    "ResNet50": 4.1,
    "MobileNetV2-1.0": 0.3,
    "FastViT-T8": 0.7,
    "FastViT-S12": 1.8,
    "FastViT-SA24": 3.8,
    "MobileOne-S0": 0.275,
    "MobileOne-S2": 1.299,
    "MobileOne-S4": 2.978,
    "EfficientFormerV2-S0": 0.4,
    "EfficientFormer-L1": 1.3,
    "RepViT-M0.9": 0.8,
    "RepViT-M2.3": 4.5,
}


def gmacs(workload: Network | Generation) -> float:
    module = Networks({})(workload)
    return sum(op.macs() for op in module.main.body if isinstance(op, GraphOp)) / 1e9


@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2-1.0"])
def test_examples_have_their_published_work(name):
    assert gmacs(Network(name, "fp16")) == pytest.approx(GMACS[name], rel=0.03)


@pytest.fixture
def timm():
    return wanted("timm")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(GMACS) - {"ResNet50", "MobileNetV2-1.0"}))
def test_networks_have_their_published_work(name, timm):
    assert gmacs(Network(name, "fp16")) == pytest.approx(GMACS[name], rel=0.04)


def test_a_token_reads_every_weight_once():
    """OPT-1.3B and Llama-2-7B without their tables of token embeddings, which also make the logits."""
    layers, hidden = 24, 2048
    work = layers * (12 * hidden**2 + 2 * 65 * hidden) + 50272 * hidden
    assert gmacs(Generation("OPT-1.3B", "fp16", "decode", 64)) * 1e9 == work
    prompt = layers * 64 * (12 * hidden**2 + 2 * 64 * hidden) + 50272 * hidden  # logits of the last token alone
    assert gmacs(Generation("OPT-1.3B", "fp16", "prefill", 64)) * 1e9 == prompt
    assert gmacs(Generation("Llama-2-7B", "F16", "decode", 64)) == pytest.approx(6.74 - 0.131 + 0.017, rel=0.001)


def test_every_named_network_has_a_definition_or_says_so():
    names = {c.workload.name for t in TABLES if not t.on_request for c in t.cases() if isinstance(c.workload, Network)}
    assert names - set(NETWORKS) == {"ResNet-50 v1 (MLPerf ref model)"}
    with pytest.raises(MissingDefinition, match=r"defines 'ResNet-50 v1 \(MLPerf ref model\)'; give one with --models"):
        find_network("ResNet-50 v1 (MLPerf ref model)")


def test_the_pieces_of_a_step_are_the_step():
    name = "GPT-2 124M decode step"
    calls = next(c.workload for t in find_tables(["apple/e2e"]) for c in t.cases() if name in c.label)
    assert isinstance(calls, Programs) and [c.engine for c in calls.calls] == ["", "cpu", "", "cpu"]
    rows = (16, 1, 16, 1)  # of which the Neural Engine's programs need one
    pieces = [gmacs(c.network) * c.times / n for c, n in zip(calls.calls, rows, strict=True)]
    assert sum(pieces) == pytest.approx(gmacs(Network(name, "fp32")), rel=1e-9)
    assert sum(pieces) * 1e9 == pytest.approx(12 * (12 * 768**2 + 2 * 65 * 768) + 50257 * 768)


def test_a_token_meets_the_experts_it_goes_to():
    """Qwen3-30B-A3B: 3.3 G parameters are active, of which the table of embeddings is not multiplied with."""
    attention = 2048 * (2 * 4096 + 2 * 512) + 2 * 4096 * 65
    layer = attention + 2048 * 128 + 8 * 3 * 2048 * 768
    assert gmacs(Generation("Qwen3-30B-A3B-2507", "q4", "decode", 64)) * 1e9 == 48 * layer + 151936 * 2048
    dense = gmacs(Generation("Qwen3-4B-Instruct-2507", "bf16", "decode", 64))
    assert dense == pytest.approx(4.02, rel=0.01)


def test_a_missing_package_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # an import then fails as one of a package that is not there
    with pytest.raises(NotPriced) as error:
        Networks({})(Network("FastViT-T8", "fp16"))
    assert str(error.value) == "needs timm: pip install 'tilewright[zoo]'"


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("pal4/6", "palettes of different widths"),
        ("sparse60", "sparse weights of this density"),
        ("Q4_K_M", "weights in blocks of this form"),
        ("fp12", "a precision that is not known"),
    ],
)
def test_precisions_that_are_not_compiled_say_what_they_need(name, needs):
    with pytest.raises(NotPriced) as error:
        Networks({})(Network("ResNet50", name))
    assert str(error.value) == f"needs {needs} ('{name}')"


def test_precisions_have_a_float_type():
    assert (find_precision("fp16").dtype, find_precision("fp32").dtype) == ("f16", "f32")


@pytest.mark.slow
def test_all_tables_and_what_the_readme_shows():
    report = validate(find_tables([]), Options(rows=True))
    for t in report.tables:
        assert t.cases is not None and len(t.cases) == t.rows
        assert t.counted == sum(not (c.fitted or c.unpriced) for c in t.cases)
        assert not [u for u in t.unpriced if "InternalError" in u.reason]
    out = io.StringIO()
    print_report(report, Console(file=out, width=PIPE_WIDTH, highlight=False, markup=False), rows=False)
    printed = [line.rstrip() for line in out.getvalue().splitlines()]
    shown = re.findall(r"^    ((?:table +target|apple/|tpu/|gpu/|systolic/).*)$", README.read_text(), re.M)
    tables = printed[: next(i for i, line in enumerate(printed) if line.startswith("MAPE"))]
    assert shown == [line for line in tables if not line.startswith("  ")]  # without the regimes
