"""The graph interpreter, and the data behind parameters."""

import gc
import weakref

import numpy as np
import pytest
import torch
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.interpret import InterpretError, parameter_array, run_graph
from tilewright.compiler.ir import Block, Builder, Func, Location, Module, Return, TensorType, verify

RNG = np.random.default_rng(4)


def program(*types):
    """(module, its builder, the arguments of main)."""
    module = Module()
    main = module.body.append(Func(regions=[Block(types, [f"x{i}" for i in range(len(types))])], sym_name="main"))
    return module, Builder(main.body), main.args


def linear(dtype="f16"):
    """gelu(x w^T + b), the last two ops in a group."""
    module, b, (x,) = program(TensorType((3, 5), dtype))
    w = b.add(graph.Parameter(result_types=[TensorType((4, 5), dtype)], key="fc.weight")).result
    bias = b.add(graph.Parameter(result_types=[TensorType((4,), dtype)], key="fc.bias")).result
    y = b.add(graph.Matmul(x, w, transpose_b=True)).result
    body = Block([y.type, bias.type])
    inner = Builder(body)
    total = inner.add(graph.ELEMENTWISE["add"](*body.args)).result
    out = inner.add(graph.ELEMENTWISE["gelu"](total)).result
    inner.add(graph.Yield(out))
    group = b.add(graph.Fuse(y, bias, regions=[body]))
    b.add(Return(group.results[0], x))
    verify(module)
    return module


@pytest.mark.parametrize(("arith", "kind"), [("native", torch.float16), ("f32", torch.float32)])
def test_a_group_of_ops(arith, kind):
    module = linear()
    x = RNG.standard_normal((3, 5)).astype("f2")
    fc = torch.nn.Linear(5, 4).half()
    module.parameters = {"fc.weight": fc.weight, "fc.bias": fc.bias.detach().numpy()}
    y, same = run_graph(module, [x], arith)
    expected = torch.nn.functional.gelu(torch.tensor(x).float() @ fc.weight.float().T + fc.bias.float())
    np.testing.assert_allclose(y.astype("f4"), expected.detach().numpy(), 3e-3 if arith == "native" else 1e-5, 2e-3)
    assert str(y.dtype) == str(kind).removeprefix("torch.") == str(same.dtype)


def test_values_die_after_their_last_use(monkeypatch):
    alive, most = weakref.WeakSet(), 0
    from tilewright.compiler.interpret import graph as interpreter

    evaluate = interpreter.evaluate

    class Tracked(np.ndarray):
        pass

    def tracking(*args):
        nonlocal most
        results = [r.view(Tracked) for r in evaluate(*args)]
        alive.update(results)
        gc.collect()
        most = max(most, len(alive))
        return results

    monkeypatch.setattr(Tracked, "__hash__", lambda self: id(self), raising=False)
    monkeypatch.setattr(Tracked, "__eq__", lambda self, other: self is other, raising=False)
    monkeypatch.setattr(interpreter, "evaluate", tracking)
    module, b, (x,) = program(TensorType((4,), "f32"))
    for _ in range(20):
        x = b.add(graph.ELEMENTWISE["exp"](x)).result
        b.add(graph.ELEMENTWISE["neg"](x))
    b.add(Return(x))
    run_graph(module, [np.zeros(4, "f4")])
    assert most <= 3


def test_a_module_without_data_has_random_data_by_key():
    module = linear()
    first, again = (run_graph(module, [np.ones((3, 5), "f2")])[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first).all() and first.std() > 0
    kind = TensorType((64, 256), "f16")
    a, b = (parameter_array(module, key, kind) for key in ("a", "b"))
    assert a.dtype == np.float16 and not np.array_equal(a, b)
    assert 0.9 < a.astype("f4").std() * 16 < 1.1
    vector = parameter_array(module, "bn.running_var", TensorType((512,), "f32"))
    assert vector.min() > 0.5
    assert set(np.unique(parameter_array(module, "i", TensorType((64,), "i64")))) <= {0, 1}
    assert parameter_array(module, "m", TensorType((64,), "i1")).dtype == np.bool_


def test_parameters_of_every_kind():
    module = Module()
    values = np.array([[0.1, 7.0]], "f4")
    kinds = {
        "torch": torch.tensor(values), "half": torch.tensor(values).half(), "bf16": torch.tensor(values).bfloat16(),
        "numpy": values, "made": lambda arith: values if arith == "f32" else values.astype("f2"),
        "parameter": torch.nn.Parameter(torch.tensor(values)),
    }  # fmt: skip
    module.parameters = kinds
    for key in kinds:
        native = parameter_array(module, key, TensorType((1, 2), "f16"))
        assert native.dtype == np.float16 and native[0, 1] == 7
        wide = parameter_array(module, key, TensorType((1, 2), "f16"), "f32")
        assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide, values)  # not rounded to 16 bits on the way
    np.testing.assert_array_equal(parameter_array(module, "made", TensorType((1, 2), "f16"), "f32"), values)


def test_what_passes_derive_does_not_count_as_data():
    module = linear()
    module.parameters["folded.0"] = lambda arith: np.zeros(3, "f4")
    assert np.isfinite(run_graph(module, [np.ones((3, 5), "f2")])[0]).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"fc.weight": torch.empty(4, 5, device="meta")},
            "'fc.weight' has no data .* meta device.*costing",
        ),
        ({"fc.bias": torch.zeros(4)}, "uses the parameter 'fc.weight', which the module does not hold"),
        ({"fc.weight": torch.zeros(5, 4)}, r"'fc.weight' has shape \(5, 4\), the program takes tensor<4x5xf16>"),
    ],
)
def test_parameters_without_data(data, message):
    module = linear()
    module.parameters = data
    with pytest.raises(InterpretError, match=message):
        run_graph(module, [np.ones((3, 5), "f2")])


def test_a_fake_tensor_has_no_data():
    from torch._subclasses.fake_tensor import FakeTensorMode

    module = linear()
    with FakeTensorMode():
        module.parameters["fc.weight"] = torch.empty(4, 5)
    with pytest.raises(InterpretError, match=r"'fc.weight' has no data"):
        run_graph(module, [np.ones((3, 5), "f2")])


def test_an_op_of_another_level_is_an_error():
    module, b, (x,) = program(TensorType((3,), "f32"))
    where = Location("net.py", 4, 0, "head", "y")
    b.add(Return(b.add(tile.View(x, result_types=[x.type], strides=(1,), location=where)).result))
    with pytest.raises(InterpretError, match=r"'tile.view' \(y head net.py:4\): is no op of the graph level"):
        run_graph(module, [np.zeros(3, "f4")])


def test_a_float_input_is_taken_in_any_precision():
    module, b, (x,) = program(TensorType((2,), "f16"))
    b.add(Return(x))
    assert run_graph(module, [np.array([0.1, 1e9])])[0].dtype == np.float16
    assert run_graph(module, [np.array([0.1, 2.0], "f2")], "f32")[0].dtype == np.float32
