"""`tilewright models`: the built-in examples."""

from __future__ import annotations

from .output import console


def models() -> None:
    """List the built-in examples, and the sizes that --dim sets."""
    from tilewright.compiler.frontend.examples import EXAMPLES, example_file
    from tilewright.compiler.frontend.user_code import find_callable, load_file, sizes
    from tilewright.compiler.report import make_table

    table = make_table("model", "what it is", "dims")
    for name, (_, description) in EXAMPLES.items():
        file = example_file(name)
        dims = sizes(find_callable(load_file(file), file, name))
        table.add_row(name, description, " ".join(f"{dim}={p.default}" for dim, p in dims.items()))
    console().print(table)
