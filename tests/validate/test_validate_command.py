"""The command: a small table and a small network of the user's, what is counted, and mistakes."""

import json
import re
from pathlib import Path

import pytest
from tilewright.compiler.cli import main
from tilewright.compiler.validate import SCHEMA, Options, runner, validate
from tilewright.compiler.validate.price import Job
from tilewright.compiler.validate.runner import GROUP, _groups
from tilewright.targets.validation import find_tables
from tilewright.targets.validation.workloads import Gemm, Network

E2E = "model,batch,precision,engine,chip,latency_ms,source,note\n"
ROWS = (
    "Tiny,1,fp16,CoreML ANE,M1,0.5,mine,\n"
    "Wide,1,fp16,GPU Metal,M1,1.5,mine,\n"
    "Tiny,1,sparse60,CoreML ANE,M1,0.4,mine,\n"
    "Other,1,fp16,CoreML ANE,M1,0.4,mine,\n"
    "Tiny,1,fp16,CoreML ANE,M9,0.3,mine,\n"
)
MODELS = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a = torch.nn.Linear(64, width)
        self.b = torch.nn.Linear(width, 8)
    def forward(self, x):
        return self.b(torch.relu(self.a(x)))

MODELS = {"Tiny": lambda: (Net(32), (torch.randn(4, 64),)), "Wide": lambda: (Net(4096), (torch.randn(512, 64),))}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tables and networks of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "RATIOS", ())  # they take whole networks, whatever the folder holds
    (tmp_path / "data/apple").mkdir(parents=True)
    (tmp_path / "data/apple/e2e_latency.csv").write_text(E2E + ROWS)
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["validate", *args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def report(capsys: pytest.CaptureFixture[str], *args: str) -> dict:
    code, out, err = run(capsys, *args, "--json", "-")
    assert code == 0, err
    return json.loads(out)


def test_ones_own_tables_and_networks(folder, capsys):
    found = report(capsys, "e2e", "--data", "data", "--models", "models.py", "--rows")
    assert found["schema"] == SCHEMA and found["skipped"] == []
    m1, m9 = found["tables"]
    assert (m1["name"], m1["target"], m1["rows"], m1["counted"], m1["fitted"]) == ("apple/e2e_latency", "m1", 4, 2, 0)
    assert [(u["row"], u["reason"]) for u in m1["unpriced"]] == [
        ("4", "needs sparse weights of this density ('sparse60')"),
        ("5", "no package that is known here defines 'Other'; give one with --models"),
    ]
    assert [u["reason"] for u in m9["unpriced"]] == ["there is no target 'm9'"] and m9["mape"] is None
    tiny, wide, *others = m1["cases"]
    assert [c["error"] for c in others] == [None, None]
    assert m1["mape"] == pytest.approx((abs(tiny["error"]) + abs(wide["error"])) / 2, abs=0.01)
    for case in (tiny, wide):
        assert case["error"] == pytest.approx(100 * (case["predicted"] / case["measured"] - 1), abs=0.01)
        assert sum(case["causes"].values()) == pytest.approx(case["predicted"])
        assert 0 < case["roofline"] <= case["predicted"]
    assert tiny["predicted"] >= 190e-6  # M1's Neural Engine takes that long to launch
    assert sum(r["counted"] for r in m1["regimes"]) == 2
    assert m1["causes"]["launch"] > 10


def test_the_table_for_people_says_the_same(folder, capsys):
    found = report(capsys, "e2e", "--data", "data", "--models", "models.py")
    code, out, _ = run(capsys, "e2e", "--data", "data", "--models", "models.py", "--rows")
    assert code == 0
    assert re.search(rf"apple/e2e_latency +m1 +4 +0 +2 +{found['tables'][0]['mape']:.1f} ", out)
    assert "needs sparse weights of this density ('sparse60')" in out and "there is no target 'm9'" in out
    assert re.search(r"^ *2 +Tiny fp16 +500\.00 ", out, re.M)
    assert found["tables"][0]["cases"] is None


def test_processes_give_what_one_gives(folder, capsys):
    one, two = (report(capsys, "e2e", "--data", "data", "--models", "models.py", "--jobs", n) for n in "12")
    assert [{**r, "seconds": 0} for r in (one,)] == [{**r, "seconds": 0} for r in (two,)]


def test_groups_keep_networks_whole_and_cut_single_ops():
    gemms = [Job("m1", (), (), Gemm(1, 1, n, "f16")) for n in range(GROUP + 1)]
    nets = [Job(t, (), (), Network(n, "fp16")) for n in "ab" for t in ("m1", "m4")]
    assert [len(g) for g in _groups([*gemms, *nets])] == [GROUP, 1, 2, 2]


def test_tables_that_are_not_there_are_skipped_and_said(folder, capsys):
    code, out, err = run(capsys, "apple/e2e", "tpu/v6e_gemm", "--data", "data", "--models", "models.py")
    assert code == 0, err
    assert "not in the folder: tpu/v6e_gemm" in out


# ---------------------------------------------------------------- what is never counted


def test_fitted_rows_are_priced_and_never_counted():
    (table,) = validate(find_tables(["apple/streaming"]), Options(rows=True)).tables
    fitted = [c for c in table.cases or () if c.fitted]
    assert table.rows == 9 and table.fitted == len(fitted) == 3 and table.counted == 6
    assert all(c.error is not None and c.label.startswith("ANE") for c in fitted)
    counted = [abs(c.error) for c in table.cases or () if not c.fitted and c.error is not None]
    assert table.mape == pytest.approx(sum(counted) / 6, abs=0.01)


def test_a_harness_is_fitted_to_its_shortest_row_which_does_not_count(folder, capsys):
    source = "apple/ml-mobileone@b7f4e6d"  # calls that an app times: what one costs is fitted
    text = E2E + f"Tiny,1,fp16,CoreML ANE,M1,0.9,{source},\nWide,1,fp16,CoreML ANE,M1,1.5,{source},\n"
    Path("data/apple/e2e_latency.csv").write_text(text)
    found = report(capsys, "e2e", "--data", "data", "--models", "models.py", "--rows")
    (table,), (harness,) = found["tables"], found["harnesses"]
    tiny, wide = table["cases"]
    assert (harness["row"], table["fitted"], table["counted"]) == ("apple/e2e_latency:2", 1, 1)
    assert "modelbench" in tiny["fitted"] and wide["fitted"] == ""
    assert tiny["predicted"] == pytest.approx(0.9e-3)
    assert wide["harness_s"] == pytest.approx(harness["call_s"]) and 0 < harness["call_s"] < 0.71e-3
    assert table["mape"] == pytest.approx(abs(wide["error"]), abs=0.01)


def test_calibration_tables_have_rows_and_no_errors(capsys):
    found = report(capsys, "apple/ane_limits", "dispatch")
    assert [(t["rows"], t["fitted"], t["counted"], t["mape"]) for t in found["tables"]] == [
        (23, 23, 0, None), (21, 21, 0, None),
    ]  # fmt: skip


def test_programs_that_are_launched_one_by_one_add_up(folder, capsys):
    name = "Transformer 12-layer stack (Stories110M)"
    text = (
        E2E + f'{name},1,fp16,"ANE, 1 fused program",M4,5.0,a@1,\n{name},1,fp16,"ANE, 24 separate calls",M4,15.0,b@1,\n'
    )
    Path("data/apple/e2e_latency.csv").write_text(text)
    found = report(capsys, "e2e", "--data", "data", "--rows")
    (table,) = found["tables"]
    whole, apart = table["cases"]
    launch = 95e-6  # of M4's Neural Engine
    assert apart["causes"]["launch"] == pytest.approx(24 * launch, rel=1e-3)
    assert whole["causes"]["launch"] == pytest.approx(launch, rel=1e-3)
    assert apart["predicted"] > whole["predicted"] + 20 * launch
    assert [(s["name"], s["rows"]) for s in table["sources"]] == [("a", 1), ("b", 1)]


def test_rows_without_a_model_are_listed_one_by_one(capsys):
    (table,) = report(capsys, "scalesim")["tables"]
    assert table["rows"] == 661 == len(table["unpriced"]) + table["counted"]


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["e2ee"], 1, r"no table begins with 'e2ee'; did you mean 'apple/e2e_latency'\?"),
        (["e2e", "--data", "nowhere"], 2, "nowhere is no folder"),
        (["e2e", "--models", "none.py"], 1, "no such file: none.py"),
        (["e2e", "--models", "two.py"], 1, r"two\.py needs a dict MODELS .* it has the dicts A, B"),
        (["e2e", "--models", "no_dict.py"], 1, r"no_dict\.py needs a dict MODELS .* it has no dict"),
        (["e2e", "--models", "wrong.py"], 1, r"wrong\.py: MODELS\['Tiny'\] is a int; expected"),
        (["e2e", "--models", "raises.py"], 1, r"ValueError: not today, at .*raises\.py:1"),
        (["e2e", "--data", "bad"], 1, r"bad/e2e_latency\.csv:2: latency_ms: is 'soon'; expected a number"),
        (["stream", "--target", "m11"], 1, "has a row of the target 'm11'; did you mean 'm1'"),
        (["e2e", "--jobs", "0"], 2, "--jobs"),
    ],
)
def test_mistakes(folder, capsys, args, code, message):
    Path("two.py").write_text("A = {}\nB = {}\n")
    Path("no_dict.py").write_text("x = 1\n")
    Path("wrong.py").write_text("MODELS = {'Tiny': 3}\n")
    Path("raises.py").write_text("raise ValueError('not today')\n")
    Path("bad").mkdir()
    Path("bad/e2e_latency.csv").write_text(E2E + "Tiny,1,fp16,CoreML ANE,M1,soon,mine,\n")
    got, out, err = run(capsys, *args)
    assert (got, out) == (code, ""), err
    assert re.search(message, err) and "Traceback" not in err, err


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("MODELS = {'Tiny': lambda: 3}", "must return (model, args)"),
        ("def f(): raise KeyError('gone')\nMODELS = {'Tiny': f}", "the model of 'Tiny' raised KeyError"),
        ("MODELS = {'Tiny': lambda size: 3}", "the model of 'Tiny' needs size"),
    ],
)
def test_a_network_that_fails_is_unpriced(folder, capsys, body, reason):
    Path("models.py").write_text(body)
    found = report(capsys, "e2e", "--data", "data", "--models", "models.py")
    assert reason in found["tables"][0]["unpriced"][0]["reason"]
