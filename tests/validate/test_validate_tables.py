"""Every shipped row becomes a case; bad tables are told by file, line and column."""

import re
from collections import Counter
from pathlib import Path

import pytest
from tilewright.targets.validation import TABLES, TableError, find_tables
from tilewright.targets.validation.case import is_half
from tilewright.targets.validation.table import CALIBRATE, DATA, SPLIT
from tilewright.targets.validation.workloads import Attention, Conv, Elementwise, Gemm, Generation

SHIPPED = [t for t in TABLES if not t.on_request]
BY_NAME = {t.name: t for t in SHIPPED}
KNOWN_UNPRICED = {"logits in Python"}


def lines(name: str) -> int:
    return len((DATA / f"{name}.csv").read_text().strip().splitlines()) - 1


@pytest.mark.parametrize("table", SHIPPED, ids=lambda t: t.name)
def test_every_row_is_a_case(table):
    cases = table.cases()
    assert len({c.row for c in cases}) == len(cases)
    assert {int(c.row.split(":")[0]) for c in cases} == set(range(2, lines(table.name) + 2))
    for c in cases:
        if table.use == CALIBRATE:
            assert c.fitted and c.workload is None
        else:
            assert c.workload is not None and c.measured > 0 and c.target and c.label
            assert c.unpriced in {"", *KNOWN_UNPRICED}


def test_every_file_is_a_table_with_a_source():
    files = {p.relative_to(DATA).with_suffix("").as_posix() for p in DATA.rglob("*.csv")}
    assert files == set(BY_NAME)
    text = (DATA / "SOURCES.md").read_text()
    for name in files:
        family, _, short = name.partition("/")
        assert short in text or f"{family}/{short.split('_')[0]}_*" in text, name


@pytest.mark.parametrize("name", [t.name for t in SHIPPED if t.use == SPLIT])
def test_about_half_of_a_split_table_may_be_fitted(name):
    cases = BY_NAME[name].cases()
    assert 0.35 < sum(bool(c.fitted) for c in cases) / len(cases) < 0.65


def test_the_split_follows_the_row_and_not_its_place(tmp_path):
    table = BY_NAME["tpu/v6e_gemm"]
    head, *rows = (DATA / "tpu/v6e_gemm.csv").read_text().splitlines()
    (tmp_path / "v6e_gemm.csv").write_text("\n".join([head, *rows[::-3]]))
    before = {c.label: c.fitted for c in table.cases()}
    some = table.cases(tmp_path)
    assert len(some) == len(rows[::-3])
    assert all(c.fitted == before[c.label] for c in some)
    assert is_half("gemm", 1, 2, 3, "bf16") == is_half("gemm", "1", "2", "3", "bf16")


def case(name: str, label: str):
    return next(c for c in BY_NAME[name].cases() if c.label == label)


def test_rows_mean_what_their_sources_say():
    conv = case("tpu/v3_cycles", "conv_64x14x14x256x256x3x1x1")
    assert conv.workload == Conv(64, 256, 256, 14, 14, 3, 1, 1, "f32")
    assert conv.measured == 246790 / 940e6
    decode = case("tpu/v6e_ffn_attn", "attn_dec 24x8x1x512x128")
    assert decode.workload == Attention(1, 24, 8, 1, 512, 128, "bf16") and decode.measured == pytest.approx(7546e-9)
    assert case("tpu/v6e_sdpa", "decode 1x1x1x256x128").workload == Attention(1, 1, 1, 1, 256, 128, "bf16")
    softmax = case("gpu/llmcompass_softmax_A100", "4096x32")
    assert softmax.measured == pytest.approx(4096 * 32 / 9.99556025250909e9)
    assert case("gpu/llmcompass_matmul_A100", "64x12288x12288").measured == pytest.approx(0.19e-3)
    linear = case("gpu/neusight_linear", "linear 1x512x50272x1280")  # B, M, N, K: N is the depth
    assert linear.workload == Gemm(512, 50272, 1280, "f32", transposed=True, bias=True)
    assert case("gpu/neusight_bmm", "bmm 192x96x196x196").workload == Gemm(96, 196, 196, "f32", 192, weight=False)
    add = case("gpu/neusight_elem", "addu 32768x1600")
    assert add.workload == Elementwise("add", (32768, 1600), "f32", 2, scalar=True)
    gemm = case("apple/gemm_conv_sweep", "GPU gemm N=512 square")
    assert (gemm.engines, gemm.settings) == (("gpu",), (("gpu.cores", "7"),))
    tokens = case("apple/llm_throughput", "Llama-2-7B F16 pp512")
    assert tokens.workload == Generation("Llama-2-7B", "F16", "prefill", 512)
    assert tokens.measured == pytest.approx(512 / 201.34) and tokens.target == "m2"


def test_a_row_of_many_figures_gives_a_case_for_each():
    cases = BY_NAME["gpu/vidur_llama2_7b_mlp_a100"].cases()
    assert set(Counter(c.part for c in cases).values()) == {131} and len(cases) == 1310
    up = next(c for c in cases if c.label == "mlp_up_proj, 4096 tokens")
    assert up.workload == Gemm(4096, 4096, 2 * 11008, "f16", transposed=True) and up.row == "2:mlp_up_proj"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["tpu/v6e"], ["tpu/v6e_gemm", "tpu/v6e_ffn_attn", "tpu/v6e_sdpa"]),
        (["v6e_gemm", "tpu/v6e_gemm"], ["tpu/v6e_gemm"]),
        (["neusight_ln", "v3"], ["tpu/v3_cycles", "gpu/neusight_ln"]),
        ([], [t.name for t in SHIPPED]),
    ],
)
def test_tables_are_found_by_how_they_begin(names, found):
    assert [t.name for t in find_tables(names)] == found


def test_an_unknown_table_is_told_with_the_nearest():
    with pytest.raises(TableError, match="no table begins with 'v6e_gmm'; did you mean 'tpu/v6e_gemm'"):
        find_tables(["v6e_gmm"])


HEAD = "M,K,N,dtype,latency_ns\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"v6e_gemm\.csv: is empty; expected a header line with M, K, N"),
        ("\n \n", r"v6e_gemm\.csv: is empty"),
        (HEAD, r"v6e_gemm\.csv: has a header and no rows"),
        ("M,K,dtype\n1,2,bf16\n", r"v6e_gemm\.csv:1: the columns N, latency_ns missing; the header has M, K, dtype"),
        ("M,M,K,N,dtype,latency_ns\n1,1,1,1,bf16,1\n", r"v6e_gemm\.csv:1: the column M is there twice"),
        (f"{HEAD}1,2,3,bf16,2593\n1,2,x,bf16,4\n", r"v6e_gemm\.csv:3: N: is 'x'; expected a whole number"),
        (f"{HEAD}1,2,3,,4\n", r"v6e_gemm\.csv:2: dtype: is empty; expected text"),
        (f"{HEAD}1,2,3,bf16\n", r"v6e_gemm\.csv:2: has 4 cells where the header has 5"),
        (f"{HEAD}1,2,0,bf16,4\n", r"v6e_gemm\.csv:2: N: is 0; expected more than 0"),
        (f"{HEAD}1,2,3,bf16,-4\n", r"v6e_gemm\.csv:2: latency_ns: is -4; expected more than 0"),
        (f'{HEAD}1,2,3,"bf16,4\n', r"v6e_gemm\.csv:2: no valid CSV"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str):
    (tmp_path / "v6e_gemm.csv").write_text(text)
    with pytest.raises(TableError) as error:
        BY_NAME["tpu/v6e_gemm"].cases(tmp_path)
    assert re.search(message, str(error.value)), error.value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tpu/v6e_ffn_attn", "op,size,dtype,latency_ns\nffn,1x2x3,bf16,4\n", r":2: op: is 'ffn'; expected one of"),
        ("tpu/v6e_ffn_attn", "op,size,dtype,latency_ns\nffn_erf,1x2,bf16,4\n", r":2: size: is '1x2'; ffn_erf has 3"),
        ("gpu/llmcompass_matmul_A100", "M,N,K,latency\n1,2,3,4us\n", r":2: latency: is '4us'; expected milliseconds"),
        ("gpu/llmcompass_gelu_A100", "M,gelements_per_s\n8,nan\n", r":2: gelements_per_s: is 'nan'; expected a number"),
        ("gpu/neusight_ln", "OPName,Latency,Device,B,H\nlm,1.0,NVIDIA L4,1,2\n", r":2: OPName: is 'lm'; expected one"),
        (
            "systolic/scalesim_golden",
            "M,N,K,R,C,dataflow,cycles\n1,1,1,8,8,xs,9\n",
            r":2: dataflow: is 'xs'; expected ws, is or os",
        ),
    ],
)
def test_bad_rows(tmp_path: Path, name: str, text: str, message: str):
    (tmp_path / Path(f"{name}.csv").name).write_text(text)
    with pytest.raises(TableError) as error:
        BY_NAME[name].cases(tmp_path)
    assert re.search(message, str(error.value)), error.value


def test_a_table_that_is_no_text_is_told(tmp_path: Path):
    (tmp_path / "v6e_gemm.csv").write_bytes(b"M,K\xff\n")
    with pytest.raises(TableError, match=r"is not UTF-8 text: .* at byte 3"):
        BY_NAME["tpu/v6e_gemm"].cases(tmp_path)


def test_unknown_workloads_are_unpriced_and_not_dropped(tmp_path: Path):
    (tmp_path / "v3_cycles.csv").write_text("Workload,TPUv3\ngemm_8x8,100\ngelu_4,7\n")
    cases = BY_NAME["tpu/v3_cycles"].cases(tmp_path)
    assert [c.unpriced for c in cases] == [
        f"'{n}' is no workload that this table is known to hold" for n in ("gemm_8x8", "gelu_4")
    ]
