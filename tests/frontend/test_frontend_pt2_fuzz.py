"""Any change to an archive's JSON is told in one message, or is harmless."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pt2_files import CONSTANTS, MODEL, WEIGHTS, rewrite
from tilewright.compiler.frontend.errors import SourceError
from tilewright.compiler.frontend.sources import load

pytestmark = pytest.mark.usefixtures("own_temporary_folder")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        [0, 1, -1, 2**31, 2**63 - 1, -(2**63), 1e308, float("inf"), float("nan"), "", "x", "as_int", [], {}]
    ),
    st.text(max_size=8),
    st.lists(st.integers(-3, 2**33), max_size=4),
    st.fixed_dictionaries({}, optional={k: st.integers(-2, 9) for k in ("as_int", "as_tensor", "as_none", "as_ints")}),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if key not in ("stack_trace", "torch_fn", "module_call_graph"):
            yield from places(child, (*at, key))


def changed(content: Any, at: tuple[Any, ...], how: str, value: Any) -> Any:
    content = copy.deepcopy(content)
    owner = content
    for key in at[:-1]:
        owner = owner[key]
    key = at[-1]
    if how == "set":
        owner[key] = value
    elif how == "delete":
        del owner[key]
    elif how == "wrap":
        owner[key] = [owner[key]]
    elif isinstance(owner, list):
        owner.insert(0, copy.deepcopy(owner[key]))
    else:
        owner[f"{key}_"] = owner.pop(key)
    return content


CONTENTS: dict[str, Any] = {}  # of the JSON members, when `rewritten` has read them


@pytest.fixture(scope="module")
def rewritten(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Path]:
    path = tmp_path_factory.mktemp("changed") / "x.pt2"
    with zipfile.ZipFile(archive) as file:
        folder = file.namelist()[0].partition("/")[0]
        CONTENTS.update({name: json.loads(file.read(f"{folder}/{name}")) for name in (MODEL, WEIGHTS, CONSTANTS)})
    return lambda member, content: rewrite(archive, path, members={member: json.dumps(content).encode()})


CHANGES = st.tuples(
    st.sampled_from([MODEL, MODEL, MODEL, WEIGHTS, CONSTANTS]),
    st.lists(
        st.tuples(st.integers(0, 2**20), st.sampled_from(["set", "set", "delete", "wrap", "more"]), VALUES),
        min_size=1,
        max_size=3,
    ),
)


@settings(max_examples=400, deadline=5000)
@given(change=CHANGES)
def test_any_change_to_the_json_is_told_or_harmless(rewritten: Callable[[str, Any], Path], change: Any) -> None:
    member, edits = change
    content = None
    for number, how, value in edits:
        content = CONTENTS[member] if content is None else content
        found = list(places(content))
        if found:
            content = changed(content, found[number % len(found)], how, value)
    try:
        load(str(rewritten(member, content)))
    except SourceError as error:
        assert "internal" not in str(error) and len(str(error)) < 4000
