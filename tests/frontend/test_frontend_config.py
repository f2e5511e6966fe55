"""transformers configurations as sources: the class, inputs by its task, weights from safetensors beside it."""

from __future__ import annotations

import builtins
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from frontend_check import same_as_eager
from safetensors.torch import save_file
from tilewright.compiler.cli import main
from tilewright.compiler.frontend.eager import run_eager
from tilewright.compiler.frontend.errors import (
    BadConfig,
    CallableFailed,
    ExportFailed,
    MissingPackage,
    NoSuchSource,
    SourceError,
    UnknownDim,
)
from tilewright.compiler.frontend.sources import load

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_key_value_heads": 2, **SMALL}
VIT = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "image_size": 32, "patch_size": 8, **SMALL}
WHISPER = {
    **{"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "d_model": 32},
    **{f"{part}_layers": 1 for part in ("encoder", "decoder")},
    **{f"{part}_attention_heads": 4 for part in ("encoder", "decoder")},
    **{f"{part}_ffn_dim": 64 for part in ("encoder", "decoder")},
    **{"vocab_size": 50, "num_mel_bins": 16, "max_source_positions": 50, "max_target_positions": 20},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
}
WAV2VEC = {
    **{"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"], **SMALL},
    **{"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
    **{"conv_dim": [16, 16], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2},
}
T5 = {
    **{"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 50},
    **{"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4},
}
CLIP = {
    **{"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": 16},
    "text_config": {**SMALL, "max_position_embeddings": 16},
    "vision_config": {**VIT, "model_type": "clip_vision_model"},
}
SIGLIP = {**CLIP, "model_type": "siglip", "architectures": ["SiglipModel"]}
SIGLIP["vision_config"] = {**VIT, "model_type": "siglip_vision_model"}
BLIP = {
    **{"model_type": "blip", "architectures": ["BlipForConditionalGeneration"], "projection_dim": 16},
    **{"text_config": {**SMALL, "max_position_embeddings": 16, "encoder_hidden_size": 32, "sep_token_id": 3}},
    **{"vision_config": {**VIT, "model_type": "blip_vision_model"}},
}


def write(folder: Path, config: Mapping[str, Any] | list[Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def refused(folder: Path, told: str, kind: type[SourceError] = BadConfig, **options: Any) -> None:
    with pytest.raises(kind, match=told) as caught:
        load(str(folder), **options)
    text = str(caught.value)
    assert "Traceback" not in text and "compiler/frontend" not in text


@pytest.mark.parametrize(
    "config, inputs",
    [
        (LLAMA, ["1x128xi64"]),
        (VIT, ["1x3x32x32xf32"]),
        (WHISPER, ["1x16x100xf32", "1x20xi64"]),
        (WAV2VEC, ["1x16000xf32"]),
        (T5, ["1x128xi64", "1x128xi64"]),
        (CLIP, ["1x16xi64", "1x3x32x32xf32"]),
        (SIGLIP, ["1x16xi64", "1x3x32x32xf32"]),
        (BLIP, ["1x16xi64", "1x3x32x32xf32"]),
    ],
    ids=lambda x: x["model_type"] if isinstance(x, dict) else None,
)
def test_inputs_by_task(tmp_path: Path, config: dict[str, Any], inputs: list[str]) -> None:
    loaded = load(str(write(tmp_path, config)), dtype="f32")
    assert (loaded.kind, loaded.name) == ("config", config["architectures"][0])
    assert [str(a.type) for a in loaded.module.main.args] == [f"tensor<{i}>" for i in inputs]
    same_as_eager(loaded, 1e-4)


def test_a_branch_on_values_that_only_half_precision_takes(tmp_path: Path) -> None:
    parts = {f"{p}_{n}": v for p in ("encoder", "decoder") for n, v in (("layers", 1), ("attention_heads", 4))}
    small = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 50}
    write(tmp_path, {"model_type": "bart", "architectures": ["BartForConditionalGeneration"], **parts, **small})
    refused(
        tmp_path, "(?s)the values of a tensor decide in 'if .*float16.*half precision alone: --dtype f32", ExportFailed
    )
    assert load(str(tmp_path), dtype="f32").module.main.args


def test_a_model_that_fails_in_pytorch(tmp_path: Path) -> None:
    """Token numbers that the vocabulary has not: the program is exported, and running it fails."""
    loaded = load(str(write(tmp_path, LLAMA)), dtype="f32")
    loaded.kwargs["input_ids"] = torch.full((1, 128), 50)
    with pytest.raises(CallableFailed, match="LlamaForCausalLM fails in PyTorch on its example inputs: IndexError"):
        run_eager(loaded)


def test_dims_and_the_path_of_the_file(tmp_path: Path) -> None:
    path = str(write(tmp_path, LLAMA) / "config.json")
    loaded = load(path, dims={"batch": 2, "seq": 5}, weights=False)
    assert str(loaded.module.main.args[0].type) == "tensor<2x5xi64>"
    assert all(p.is_meta for k, p in loaded.module.parameters.items() if k.endswith("weight"))
    refused(tmp_path, "has no dim 'sec'; did you mean 'seq'?", UnknownDim, dims={"sec": 5})


def test_random_weights_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = (load(str(write(tmp_path, VIT))).module.parameters for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first if isinstance(first[k], torch.Tensor))


def save_weights(folder: Path, config: Mapping[str, Any], cut: int = 0) -> dict[str, torch.Tensor]:
    """Random weights other than those that a load without a file makes."""
    model = load(str(write(folder, config)), dtype="f32").model
    assert model is not None
    state = {k: torch.randn_like(v) / 8 for k, v in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    return state


def test_weights_beside_the_configuration(tmp_path: Path) -> None:
    state = save_weights(tmp_path, VIT)
    loaded = load(str(tmp_path), dtype="f32")
    assert loaded.model is not None
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, state[key])
    same_as_eager(loaded, 1e-4)
    (tmp_path / "model.safetensors").rename(tmp_path / "part-1.safetensors")
    index = {"weight_map": dict.fromkeys(state, "part-1.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    again = load(str(tmp_path), dtype="f32").model
    assert again is not None and all(torch.equal(v, state[k]) for k, v in again.state_dict().items())


def test_tied_weights_need_one_name(tmp_path: Path) -> None:
    config = {**LLAMA, "tie_word_embeddings": True}
    state = save_weights(tmp_path, {**LLAMA, "tie_word_embeddings": False})
    del state["lm_head.weight"]
    save_file(state, tmp_path / "model.safetensors")
    model = load(str(write(tmp_path, config)), dtype="f32").model
    assert model is not None and torch.equal(model.state_dict()["lm_head.weight"], state["model.embed_tokens.weight"])


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    state = save_weights(tmp_path, VIT)
    path = tmp_path / "model.safetensors"
    name = "classifier.weight"
    save_file({**state, name: torch.zeros(3, 3)}, path)
    refused(tmp_path, rf"{name} is \[3, 3\], and the model's {name} is \[2, 32\]")
    save_file({**state, name: torch.zeros(2, 32, dtype=torch.int64)}, path)
    refused(tmp_path, rf"{name} is torch.int64, and the model's")
    save_file({k: v for k, v in state.items() if k != name}, path)
    refused(tmp_path, rf"the weights of {name} are not there")
    data = path.read_bytes()
    for broken in (b"", b"x" * 100, data[: len(data) // 2], struct.pack("<Q", 2**62) + data[8:], data[:200]):
        path.write_bytes(broken)
        refused(tmp_path, "is no safetensors file, or it is cut off")
    assert load(str(tmp_path), weights=False).model is not None  # a cost reads none


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "[]",
        '{"weight_map": 3}',
        '{"weight_map": {"a": "../../etc/passwd"}}',
        '{"weight_map": {"a": "/x.safetensors"}}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "x.bin"}}',
        '{"weight_map": {"a": "absent.safetensors"}}',
        '{"weight_map": {"a": ["x"], "b": "y"}}',
        "[" * 100_000,
    ],
)
def test_indices_that_are_wrong(tmp_path: Path, index: str) -> None:
    write(tmp_path, VIT)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    refused(tmp_path, "is no index of safetensors files|which is not one beside it|which is missing")


@pytest.mark.parametrize(
    "config, told",
    [
        ([1], "holds a list, not an object"),
        ({}, "names no model_type"),
        ({"model_type": "lama"}, "has no model_type 'lama'; did you mean 'llama'"),
        ({"model_type": ["llama"]}, "names no model_type"),
        ({**LLAMA, "architectures": ["os.system"]}, "has no class 'os.system' for llama: it has Llama"),
        ({**LLAMA, "architectures": ["BertModel"]}, "has no class 'BertModel' for llama"),
        ({**LLAMA, "architectures": [["LlamaModel"]]}, "has no class"),
        ({**LLAMA, "hidden_size": "x"}, "transformers"),
        ({**LLAMA, "hidden_size": 33}, "transformers"),
        ({**LLAMA, "num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; the limit is 256"),
        ({**LLAMA, "hidden_size": 10**12}, "hidden_size is 1000000000000; the limit"),
        ({**LLAMA, "intermediate_size": 10**9}, "intermediate_size is 1000000000; the limit is 16,777,216"),
        ({**LLAMA, "vocab_size": 2**24, "hidden_size": 2**20}, "its weights have .* GiB"),
    ],
)
def test_configurations_that_are_wrong(tmp_path: Path, config: Any, told: str) -> None:
    refused(write(tmp_path, config), told)


def test_files_that_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    refused(path, "no such file", NoSuchSource)
    for text in ("", "{", "[" * 100_000, "\x00\xff"):
        path.write_text(text)
        refused(path, "is no JSON")


def test_code_of_others_is_neither_run_nor_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    marker = tmp_path / "marker"
    (tmp_path / "modeling_x.py").write_text(f"open({str(marker)!r}, 'w')")
    foreign = {
        "auto_map": {"AutoConfig": "modeling_x.X", "AutoModelForCausalLM": "modeling_x.X"},
        "trust_remote_code": True,
        "attn_implementation": "someone/kernels",
        "_attn_implementation": "someone/kernels",
    }
    same_as_eager(load(str(write(tmp_path, {**LLAMA, **foreign})), dtype="f32"), 1e-4)
    refused(write(tmp_path, {**foreign, "model_type": "x"}), "code that comes with a model is not run")
    assert not marker.exists()


def test_transformers_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imports = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "transformers":
            raise ImportError("No module named 'transformers'")
        return imports(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    refused(write(tmp_path, VIT), "needs the package transformers, which is not installed", MissingPackage)


def test_the_command_line_takes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(write(tmp_path, VIT))
    assert main(["cost", folder, "--target", "m4"]) == 0
    assert "ViTForImageClassification on m4" in capsys.readouterr().out
    assert main(["cost", str(write(tmp_path, {})), "--target", "m4"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
