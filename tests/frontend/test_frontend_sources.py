"""Loading sources, and what the user is told when one cannot be loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from frontend_check import same_as_eager
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.frontend.errors import (
    CallableFailed,
    ExportFailed,
    NoSuchSource,
    SourceError,
    UnknownDim,
    UnsupportedOps,
    WrongReturn,
)
from tilewright.compiler.frontend.examples import EXAMPLES, example_file
from tilewright.compiler.frontend.sources import load

SOURCE = """
import torch
from helper_beside_the_model import WIDTH

class Net(torch.nn.Module):
    def __init__(self, width, device):
        super().__init__()
        self.fc = torch.nn.Linear(width, 4, device=device)

    def forward(self, x, bias=None):
        y = self.fc(x)
        return y if bias is None else y + bias

def net(batch=2, width=WIDTH, device="cpu"):
    return Net(width, device), (torch.ones(batch, width, device=device),)

def with_kwargs():
    return Net(3, "cpu"), [torch.ones(2, 3)], {"bias": torch.ones(4)}

def bad_shape():
    return Net(3, "cpu"), (torch.ones(2, 5),)

class Branching(Net):
    def forward(self, x):
        return x if x.sum() > 0 else -x

def branching():
    return Branching(3, "cpu"), (torch.ones(2, 3),)

@torch.library.custom_op("tilewright_tests::secret", mutates_args=())
def secret(x: torch.Tensor) -> torch.Tensor:
    return x.clone()

secret.register_fake(torch.empty_like)

class Secretive(Net):
    def forward(self, x):
        return secret(self.fc(x))

def secretive():
    return Secretive(3, "cpu"), (torch.ones(2, 3),)

def fails():
    sizes = [1, 2]
    return sizes[5]

def only_model():
    return Net(3, "cpu")

def one_value():
    return (Net(3, "cpu"),)

def no_model():
    return "net", ()

def bare_tensor():
    return Net(3, "cpu"), torch.ones(2, 3)

def list_for_kwargs():
    return Net(3, "cpu"), (torch.ones(2, 3),), [1]

def needs(seq, heads=2):
    return Net(3, "cpu"), (torch.ones(seq, 3),)

constant = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "helper_beside_the_model.py").write_text("WIDTH = 3\n")
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return path


def message(error: type[SourceError], source: str, **options: Any) -> str:
    with pytest.raises(error) as caught:
        load(source, **options)
    text = str(caught.value)
    assert "compiler/frontend" not in text and "Traceback" not in text
    return text


def line_of(text: str) -> int:
    return SOURCE.splitlines().index(text) + 1


def test_callable(file: Path) -> None:
    loaded = load(f"{file}:net")
    assert (loaded.kind, loaded.name) == ("callable", "net")
    assert str(loaded.module.main.args[0].type) == "tensor<2x3xf16>"
    assert loaded.export_s > 0 and loaded.import_s > 0
    same_as_eager(loaded, 1e-3)


def test_kwargs(file: Path) -> None:
    loaded = load(f"{file}:with_kwargs", dtype="f32")
    assert [a.name for a in loaded.module.main.args] == ["x", "bias"]
    same_as_eager(loaded)


def test_dims_are_keywords_of_the_callable(file: Path) -> None:
    loaded = load(f"{file}:net", dims={"batch": 7, "width": 5})
    assert str(loaded.module.main.args[0].type) == "tensor<7x5xf16>"
    assert message(UnknownDim, f"{file}:net", dims={"widht": 5}).endswith(
        "has no dim 'widht'; did you mean 'width'?; it takes batch, width"
    )
    assert message(UnknownDim, f"{file}:needs").endswith("needs seq; set it as a dim: --dim seq=N")
    assert str(load(f"{file}:needs", dims={"seq": 4}).module.main.args[0].type) == "tensor<4x3xf16>"
    assert "it takes none" in message(UnknownDim, f"{file}:with_kwargs", dims={"seq": 1})


def test_costing_needs_no_weights(file: Path) -> None:
    loaded = load(f"{file}:net", weights=False)
    assert loaded.module.parameters["fc.weight"].is_meta
    with pytest.raises(SourceError, match="x has no data: its tensor is on the meta device"):
        example_inputs(loaded)
    assert not load(f"{file}:with_kwargs", weights=False).module.parameters["fc.weight"].is_meta  # it takes no device


def test_progress(file: Path) -> None:
    phases: list[str] = []
    load(f"{file}:net", progress=phases.append)
    assert phases == ["export", "import"]


def test_ir_text(tmp_path: Path) -> None:
    text = """
    func.func @main(%x: tensor<2x3xf16>) -> tensor<2x3xf16> {
      %y = graph.relu %x : tensor<2x3xf16>
      func.return %y
    }
    """
    (tmp_path / "program.mlir").write_text(text)
    loaded = load(str(tmp_path / "program.mlir"))
    assert (loaded.kind, loaded.name, loaded.model) == ("ir", "program", None)
    with pytest.raises(SourceError, match="a program without a model"):
        run_eager(loaded)
    assert "no such file" in message(NoSuchSource, str(tmp_path / "progam.mlir"))
    assert "did you mean 'program.mlir'?" in message(NoSuchSource, str(tmp_path / "progam.mlir"))
    assert "fixed" in message(UnknownDim, str(tmp_path / "program.mlir"), dims={"seq": 2})


def test_no_such_file(file: Path) -> None:
    assert message(NoSuchSource, f"{file.parent}/nets.py:net").endswith("nets.py; did you mean 'net.py'?")
    assert "did you mean 'resnet50'?" in message(NoSuchSource, "resnet5")
    assert "give path/file.py:callable" in message(NoSuchSource, "nothing like it")


def test_no_such_callable(file: Path) -> None:
    assert message(NoSuchSource, f"{file}:brnching") == f"no callable 'brnching' in {file}; did you mean 'branching'?"
    assert "it has net, with_kwargs" in message(NoSuchSource, f"{file}:zzz")
    assert "'constant' is a int, not a callable" in message(NoSuchSource, f"{file}:constant")
    assert "needs the callable in it" in message(NoSuchSource, str(file))


def test_callable_that_raises(file: Path) -> None:
    line = line_of("    return sizes[5]")
    assert message(CallableFailed, f"{file}:fails") == (
        f"{file}:fails raised IndexError: list index out of range, at {file}:{line} in fails: return sizes[5]"
    )


def test_file_that_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import torch\nx = (1,\n")
    assert re.search(
        r"does not run: SyntaxError: .*broken.py:2: x = \(1,", message(CallableFailed, f"{tmp_path}/broken.py:f")
    )
    (tmp_path / "missing.py").write_text("import no_such_package_at_all\n")
    text = message(CallableFailed, f"{tmp_path}/missing.py:f")
    assert "ModuleNotFoundError: No module named 'no_such_package_at_all'" in text and "missing.py:1" in text


@pytest.mark.parametrize(
    "name, told",
    [
        ("only_model", "but it returned a Net"),
        ("one_value", "but it returned 1 values"),
        ("no_model", "the first value is a str"),
        ("bare_tensor", "the second value is a Tensor; write (x,)"),
        ("list_for_kwargs", "the third value is a list"),
    ],
)
def test_wrong_return(file: Path, name: str, told: str) -> None:
    assert told in message(WrongReturn, f"{file}:{name}")


def test_model_that_does_not_run(file: Path) -> None:
    text = message(ExportFailed, f"{file}:bad_shape")
    assert "RuntimeError" in text and f"{file}:{line_of('        y = self.fc(x)')} in forward: y = self.fc(x)" in text


def test_export_failure_names_a_file_with_all_of_it(file: Path) -> None:
    text = message(ExportFailed, f"{file}:branching")
    assert f"{file}:{line_of('        return x if x.sum() > 0 else -x')} in forward" in text
    assert len(text.splitlines()) < 12
    assert "\n  in the model itself (Branching)" in text and "take both branches with torch.where" in text
    full = Path(text.splitlines()[-1].split(": ", 1)[1])
    assert "Traceback" in full.read_text()
    full.unlink()


def test_unsupported_op_shows_the_users_line(file: Path) -> None:
    text = message(UnsupportedOps, f"{file}:secretive")
    line = "        return secret(self.fc(x))"
    assert f"tilewright_tests.secret.default\n    {file}:{line_of(line)}, node secret: {line.strip()}" in text


def test_every_example_is_a_file_with_a_callable_of_its_name() -> None:
    assert set(EXAMPLES) == {"resnet50", "mobilenetv2", "vit_b16", "llama", "llama_decode", "unet"}
    for name in EXAMPLES:
        assert f"\ndef {name}(" in example_file(name).read_text()


def test_examples_are_deterministic() -> None:
    first, second = (load("mobilenetv2", dims={"size": 64}) for _ in range(2))
    for a, b in zip(example_inputs(first), example_inputs(second), strict=True):
        np.testing.assert_array_equal(a, b)
    a, b = (x.module.parameters["features.0.weight"] for x in (first, second))
    assert torch.equal(a, b)


def test_loading_leaves_torchs_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load("resnet50", dims={"size": 32})
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_llama_of_1_2_billion_parameters_loads_fast_and_small() -> None:
    """In a fresh process: export and import in seconds, in little memory, as it has no weights."""
    code = (
        "from tilewright.compiler.frontend.sources import load; x = load('llama', weights=False);"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'));"
        "print(x.export_s + x.import_s, int(peak.split()[1]) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 12 and megabytes < 1500
