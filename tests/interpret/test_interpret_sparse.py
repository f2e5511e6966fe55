"""What sparse tensors hold when a program runs."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tilewright.compiler.dialects import graph
from tilewright.compiler.interpret import InterpretError, evaluate, parameter_array
from tilewright.compiler.ir import Block, Module, TensorType


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 13), min_size=1, max_size=4).map(tuple), st.sampled_from(["f16", "f32", "i8"]), st.data()
)
def test_to_dense_has_every_number_in_its_place(shape, dtype, data):
    elements = int(np.prod(shape))
    count = data.draw(st.integers(0, elements))
    kind = TensorType(shape, dtype, density=Fraction(count, elements))
    x = parameter_array(Module(), "w", kind)  # random numbers
    assert x.shape == shape and np.count_nonzero(x) <= count
    if dtype != "i8":
        assert np.count_nonzero(x) == count
    (y,) = evaluate(graph.ToDense(*Block([kind]).args), [x])
    np.testing.assert_array_equal(y, x)


def test_more_numbers_than_the_type_says_are_an_error():
    module = Module()
    module.parameters["w"] = np.ones((2, 4), np.float32)
    kind = TensorType((2, 4), "f16", density=Fraction(1, 2))
    with pytest.raises(InterpretError, match=r"'w' has 8 numbers other than zero, .* 4"):
        parameter_array(module, "w", kind)
    module.parameters["w"][:, 2:] = 0
    assert parameter_array(module, "w", kind).dtype == np.float16
