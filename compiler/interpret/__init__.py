"""What programs mean: each level executed with numpy."""

from .conflicts import Conflict, find_conflicts
from .graph import run_graph
from .kernels import evaluate
from .numerics import InterpretError, numpy_dtype
from .parameters import parameter_array
from .races import RaceReport, check_races
from .schedule import ORDERS
from .soc import run_soc
from .tile import run_tile

__all__ = [
    "ORDERS",
    "Conflict",
    "InterpretError",
    "RaceReport",
    "check_races",
    "evaluate",
    "find_conflicts",
    "numpy_dtype",
    "parameter_array",
    "run_graph",
    "run_soc",
    "run_tile",
]
