"""Mistakes in the text are told with their place, what was expected, and what was perhaps meant."""

import random
import re

import pytest
from ir_examples import EXAMPLES
from tilewright.compiler.ir import IRError, ParseError, VerifyError, parse, print_op

HEAD = "func.func @main(%x: tensor<4xf16>) -> tensor<4xf16> {\n"


def told(text, error=ParseError):
    """Line by line, what the error says."""
    with pytest.raises(error) as caught:
        parse(text, file="net.mlir")
    assert caught.value.__cause__ is None and caught.value.__suppress_context__  # nothing of the parser shows
    return str(caught.value).splitlines()


def test_an_error_shows_file_line_column_source_and_caret():
    text = HEAD + "  %0 = graph.rely %x : tensor<4xf16>\n  func.return %0\n}"
    assert told(text) == [
        "net.mlir:2:8: unknown op 'graph.rely'; did you mean 'graph.relu' or 'graph.elu'?",
        "    %0 = graph.rely %x : tensor<4xf16>",
        "         ^^^^^^^^^^",
    ]
    with pytest.raises(ParseError) as caught:
        parse(text, file="net.mlir")
    assert (caught.value.file, caught.value.line, caught.value.column) == ("net.mlir", 2, 8)


def test_the_caret_stands_under_the_column_after_tabs():
    assert told(HEAD + "\t%0 = graph.relu %y : tensor<4xf16>\n}")[1:] == [
        "  \t%0 = graph.relu %y : tensor<4xf16>",
        "  \t                ^^",
    ]


ONE_LINE = [  # the line in a function of %x, where the mistake is, and what is said of it
    ("%0 = graph.relu %xx : tensor<4xf16>", "%xx", "%xx is not defined before it is used; did you mean '%x'?"),
    ("%0 = graph.relu %x : tensor<4xf15>", "f15", "unknown element type 'f15'; did you mean 'f16'?"),
    ("%0 = graph.relu %x : tensor<4xf16", "6", "expected ',' or '>' before the end"),
    (
        "%0 = graph.relu %x : tensor<?xf16>",
        "?",
        "unexpected '?'; expected a shape and an element type such as '4x8xf16'",
    ),
    ("%0 = graph.relu %x : f16", "f16", "unexpected 'f16'; expected 'memref', 'tensor', '!tile.tile' or '!soc.token'"),
    ('%0 = graph.relu %x : tensor<4xf16, "1">', '"1"', 'the layout "1" is no order of the 1 axes, slowest first'),
    ('%0 = graph.relu %x : memref<4xf16, strided<[1, 2]>, "dram">', "4xf16", "2 strides for 1 axes"),
    ("%0 = graph.relu %x", "%0", "'graph.relu' has 0 results for 1 names; the types of the results stand after ':'"),
    ("%0, %1 = graph.relu %x : tensor<4xf16>", "%0, %1 =", "'graph.relu' has 1 results for 2 names"),
    ("%x = graph.relu %x : tensor<4xf16>", "%x =", "%x is already defined"),
    ("%0 = graph.relu %x {a [2]} : tensor<4xf16>", "[", "unexpected '['; expected '='"),
    ("%0 = graph.relu %x {a = [2} : tensor<4xf16>", "}", "unexpected '}'; expected ',' or ']'"),
    ("%0 = graph.relu %x {a = 1, a = 2} : tensor<4xf16>", "a = 2", "the attribute 'a' is given twice"),
    ("foo.relu %x", "foo.relu", "unknown op 'foo.relu'; no dialect 'foo' is loaded"),
    ("graph.fuse %x", "%x", "unexpected '%x'; expected '('"),
    ("soc.wait : tensor<4xf16> loc(7)", "7", "unexpected '7'; expected a string or 'unknown'"),
    ('%0 = "graph.relu"(%x) : (tensor<5xf16>) -> tensor<4xf16>', ": (tensor<5", "the operands of 'graph.relu' are"),
    ('%0 = "graph.rely"(%x) : (tensor<4xf16>) -> tensor<4xf16>', "graph.rely", "unknown op 'graph.rely'"),
    ("tile.loop on @ane (m: pat 4 by 2)", "pat", "unexpected 'pat'; expected 'par' or 'red'"),
    ("tile.loop on @ane (k: red 4 by 2, m: par 4 by 2) {", "red", "reductions come after the parallel dims"),
    ("tile.loop on @ane () {dims = []} {", "tile.loop", "the form says 'dims' already; leave it out of the attributes"),
    ("soc.copy async [] %x to %x on @ane.load", "soc.copy", "the side in dram, and only that one"),
    ("soc.exec async [] on @ane.mac (%a = %x) to () {", "%x", "%x is tensor<4xf16>, not a buffer"),
]


@pytest.mark.parametrize(("line", "place", "message"), ONE_LINE, ids=[line for line, _, _ in ONE_LINE])
def test_a_mistake_in_one_line(line, place, message):
    first, source, carets = told(f"{HEAD}  {line}\n  func.return %x\n}}")
    column = 3 + (line.rindex(place) if place in ("%x", "6", "red", "}") else line.index(place))
    assert source == "    " + line
    assert carets.index("^") == len("  ") + column - 1
    assert first.startswith(f"net.mlir:2:{column}: {message}")


def test_a_missing_comma_is_named():
    message = told(HEAD + "  %0 = graph.add %x %x : tensor<4xf16>\n}")[0]
    assert message.startswith("net.mlir:2:21: unexpected '%x'; expected ")
    assert message.endswith("operands are separated by ','")


def test_a_text_that_ends_too_early():
    assert told(HEAD + "  func.return %x")[0] == "net.mlir:2:16: expected an op or '}' before the end"


def test_a_function_must_be_what_it_says():
    text = "func.func @main(%x: tensor<4xf16>) -> tensor<5xf16> {\n  func.return %x\n}"
    message = "the function is declared as (tensor<4xf16>) -> tensor<5xf16>, but is (tensor<4xf16>) -> tensor<4xf16>"
    assert told(text)[0] == f"net.mlir:1:1: {message}"
    assert told(print_op(parse(text.replace("5x", "4x")), generic=True).replace("-> tensor<4xf16>, sym", "-> (), sym"))


def test_a_redefinition_names_the_line_of_the_first():
    text = HEAD + "  %0 = graph.relu %x : tensor<4xf16>\n  %0 = graph.relu %x : tensor<4xf16>\n}"
    assert told(text)[0] == "net.mlir:3:3: %0 is already defined in line 2"


BREAKS_A_RULE = [
    ("%0 = graph.relu %x, %x : tensor<4xf16>", "'graph.relu': has 2 operands, expected 1"),
    (
        "%0 = graph.relu %x : tensor<5xf16>",
        "'graph.relu': result is tensor<5xf16>, but the operands give tensor<4xf16>",
    ),
    ("%0 = graph.cast %x : tensor<4xf32>", "'graph.cast': needs the attribute 'to'"),
    ("%0 = graph.cumsum %x {axis = 0.5} : tensor<4xf16>", "'graph.cumsum': attribute 'axis' is 0.5, expected int"),
    ('%0 = graph.reduce %x {kind = "sum", axes = ["a"]} : tensor<4xf16>', "'graph.reduce': its operands or attributes"),
]


@pytest.mark.parametrize(("line", "message"), BREAKS_A_RULE, ids=[line for line, _ in BREAKS_A_RULE])
def test_a_broken_rule_shows_the_op(line, message):
    first, source, carets = told(f"{HEAD}  {line}\n  func.return %x\n}}", VerifyError)
    assert first.startswith(f"net.mlir:2:8: {message}")
    assert (source, carets) == ("    " + line, " " * 9 + "^" * len(line.split()[2]))


def test_any_damage_to_a_text_is_an_error_of_ours():
    """Deletes, replaces, inserts and cuts words in the examples: only IRError may come out, always with a place."""
    rng = random.Random(7)
    texts = [e.text for e in EXAMPLES]
    texts += [print_op(parse(t), generic=True, locations=True) for t in texts[::3]]
    words = [re.findall(r"\s+|[\w.]+|.", text) for text in texts]
    pool = [w for text in words for w in text if w.strip()]
    errors = 0
    for _ in range(1500):
        text = list(rng.choice(words))
        at = rng.randrange(len(text))
        match rng.randrange(4):
            case 0:
                del text[at]
            case 1:
                text[at] = rng.choice(pool)
            case 2:
                text.insert(at, rng.choice(pool))
            case _:
                del text[at:]
        try:
            parse("".join(text), file="net.mlir")
        except IRError as error:
            errors += 1
            assert re.match(r"net\.mlir:\d+:\d+: .+\n  .*\n  \s*\^+$", str(error)), str(error)
    assert errors > 1000
