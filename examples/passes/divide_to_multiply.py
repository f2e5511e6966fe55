"""A pass of your own:

tilewright opt FILE --load examples/passes/divide_to_multiply.py --passes divide-to-multiply
"""

import math
from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Operation, Value
from tilewright.compiler.ir.rewriter import P, Rewriter
from tilewright.passes import Pass, register_pass, rule

DIV, MUL = graph.ELEMENTWISE["div"], graph.ELEMENTWISE["mul"]


@register_pass
@dataclass(frozen=True)
class DivideToMultiply(Pass):
    """Divide by a constant as a multiplication by its reciprocal, which vector units do several times faster.

    before:  %c = graph.constant {value = 8.0} : tensor<f16>
             %y = graph.div %x, %c : tensor<4xf16>
    after:   %c = graph.constant {value = 0.125} : tensor<f16>
             %y = graph.mul %x, %c : tensor<4xf16>
    """

    exact: bool = True  # only powers of two, whose reciprocal is exact

    @rule(P(DIV, "x", P(graph.Constant, bind="divisor")))
    def by_constant(self, rw: Rewriter, op: Operation, x: Value, divisor: graph.Constant) -> bool:
        number = divisor.value
        if not isinstance(number, float) or number == 0:
            return rw.missed(op, "the divisor is not one number, or is 0")
        if self.exact and abs(math.frexp(number)[0]) != 0.5:
            return rw.missed(op, f"1/{number} is not exact")
        reciprocal = rw.insert(op, graph.Constant(value=1 / number, result_types=[divisor.result.type]))
        return rw.replace(op, MUL(x, reciprocal.result), reason=f"{number} is a constant")
