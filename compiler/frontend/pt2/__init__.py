"""`.pt2` archives, read without running any code from them.

torch.export.load unpickles and evaluates strings. Here the archive's zip, JSON and raw weights are read directly:

    archive.py    the zip: bounded members, bytes that stay in the file
    schema.py     the shape of the JSON, with limits
    tensors.py    stored tensors and example inputs
    operators.py  names of operators to operators, from an allow-list
    symbols.py    expressions over symbolic sizes, evaluated without eval
    graph.py      JSON nodes to an FX graph
    replay.py     the graph on fake tensors: torch infers every type anew
    serialized.py the JSON of a program, with its sizes bound
    program.py    all of it together: an ExportedProgram
    trusted.py    the same by torch's own loader, for files that are trusted
"""

from .program import ReadProgram, read_program
from .trusted import trusted_program

__all__ = ["ReadProgram", "read_program", "trusted_program"]
