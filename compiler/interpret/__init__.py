"""What programs mean: each level executed with numpy."""

from .graph import run_graph
from .kernels import evaluate
from .numerics import InterpretError, numpy_dtype
from .parameters import parameter_array
from .soc import run_soc
from .tile import run_tile

__all__ = ["InterpretError", "evaluate", "numpy_dtype", "parameter_array", "run_graph", "run_soc", "run_tile"]
