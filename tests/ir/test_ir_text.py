"""The two forms of the text: what they look like, and what they keep."""

import math

import pytest
from tilewright.compiler.dialects import graph, soc
from tilewright.compiler.ir import (
    TOKEN,
    Block,
    Builder,
    Func,
    IRError,
    Location,
    Module,
    Return,
    Symbol,
    TensorType,
    parse,
    print_op,
)
from tilewright.compiler.ir.mlir import MLIRError, through_mlir

PRETTY = """\
func.func @main(%x: tensor<1x4x8x8xf16>, %w: tensor<8x4x3x3xf16>) -> tensor<1x8x4x4xf16> attributes {aliases = [0, 0]} {
  %y = graph.conv %x, %w {strides = [2, 2], padding = [1, 1, 1, 1]} : tensor<1x8x4x4xf16>
  %0 = graph.relu %y {engine = @ane} : tensor<1x8x4x4xf16>
  func.return %0
}"""

GENERIC = """\
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<4xf16>) -> tensor<4xf16>, sym_name = "main"}> ({
  ^bb0(%x: tensor<4xf16>):
    %0 = "graph.leaky_relu"(%x) {slope = 0.5} : (tensor<4xf16>) -> tensor<4xf16>
    "func.return"(%0) : (tensor<4xf16>) -> ()
  }) {arguments.names = ["x"], tilewright.aliases = [0, 0]} : () -> ()
}) : () -> ()"""


def function(*types, names=None):
    module = Module()
    main = module.body.append(Func(regions=[Block(types, names)], sym_name="main"))
    return module, Builder(main.body), main.args


def with_attribute(value):
    """A module whose only op holds the value, and how to get it out again."""
    module, b, _ = function()
    b.add(Return(note=value))
    return module, lambda m: m.main.body.last.attributes["note"]


def test_the_pretty_form(roundtrip):
    module = parse(PRETTY)
    assert str(module) == PRETTY
    assert module.main.attributes == {"sym_name": "main", "aliases": (0, 0)}
    roundtrip(module)


def test_the_generic_form_is_mlirs():
    module = parse(GENERIC)
    assert print_op(module, generic=True) == GENERIC
    assert [a.name for a in module.main.args] == ["x"]
    again = parse(through_mlir(GENERIC))
    assert print_op(again, generic=True, names=False) == print_op(module, generic=True, names=False)


def test_the_forms_may_be_mixed():
    text = PRETTY.replace("graph.relu %y {engine = @ane} :", '"graph.relu"(%y) : (tensor<1x8x4x4xf16>) ->')
    assert str(parse(text)) == PRETTY.replace(" {engine = @ane}", "")


def test_comments_and_line_breaks_do_not_matter():
    assert str(parse("// a network\n" + PRETTY.replace(" : ", "\n    : ").replace("{\n", "{ // begins\n", 1))) == PRETTY


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1.0"),
        (True, "true"),
        (-0.0, "-0.0"),
        (1e-05, "1.0e-05"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (2**64, "18446744073709551616 : i66"),
        ('a "b"\\\n\0é', '"a \\22b\\22\\5C\\0A\\00é"'),
        (Symbol("ane.mac"), "@ane.mac"),
        (Symbol("a b"), '@"a b"'),
        ((), "[]"),
        ((1, (2.0, "x"), ()), '[1, [2.0, "x"], []]'),
        (TensorType((4, 8), "bf16", "1,0"), 'tensor<4x8xbf16, "1,0">'),
    ],
)
def test_attributes(value, text, roundtrip):
    module, read = with_attribute(value)
    assert f"func.return {{note = {text}}}" in str(module)
    roundtrip(module)
    again = read(parse(str(module)))
    assert (type(again), repr(again)) == (type(value), repr(value))


def test_mlir_gets_the_bits_of_infinity():
    module, _ = with_attribute(-math.inf)
    assert "tilewright.note = 0xFFF0000000000000 : f64" not in print_op(module)
    assert "note = 0xFFF0000000000000 : f64" in print_op(module, generic=True)


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, 1j, object])
def test_what_is_no_attribute_is_an_error(value):
    module, _ = with_attribute(value)
    with pytest.raises(
        IRError, match="an attribute may hold bool, int, float, str, Symbol, Type or tuples of them, not"
    ):
        print_op(module)


def test_attributes_with_their_default_are_not_written():
    module, b, (x,) = function(TensorType((4, 8), "f16"), names=["x"])
    b.add(Return(b.add(graph.Softmax(x, axis=1, log=False)).result))
    assert "graph.softmax %x {axis = 1} :" in str(module)


def test_names_are_kept_where_they_are_unique(roundtrip):
    t = TensorType((4,), "f16")
    module, b, args = function(t, t, t, t, names=["x", "x", None, "9 lives"])
    y = b.add(graph.ELEMENTWISE["relu"](args[1])).result
    y.name = "x_1"
    b.add(Return(y))
    head, relu, ret, _ = str(module).splitlines()
    assert head.startswith("func.func @main(%x: tensor<4xf16>, %x_1: tensor<4xf16>, %0: tensor<4xf16>, %_9_lives:")
    assert (relu, ret) == ("  %x_1_1 = graph.relu %x_1 : tensor<4xf16>", "  func.return %x_1_1")
    roundtrip(module)


def test_a_name_is_free_again_after_its_region():
    text = "\n".join(
        [
            "func.func @main(%t: !soc.token) {",
            "  %0 = soc.launch async [%t] on @ane {",
            "    %1 = soc.task async [] (%start) {",
            "      soc.yield %start",
            "    }",
            "    %2 = soc.task async [%1] (%start) {",
            "      soc.yield %start",
            "    }",
            "  }",
            "  %start = soc.launch async [%0] on @gpu {",
            "  }",
            "  soc.wait %start",
            "  func.return",
            "}",
        ]
    )
    assert str(parse(text)) == text


def test_many_results():
    text = "%a, %0 = soc.for m = 4 by 2 iter(%x = %t, %y = %t) {\n    soc.yield %y, %x\n  }\n  soc.wait %0, %a"
    head = "func.func @main(%t: !soc.token) {\n  "
    assert str(parse(f"{head}{text}\n  func.return\n}}")) == f"{head}{text}\n  func.return\n}}"
    grouped = text.replace("%a, %0 =", "%r:2 =").replace("wait %0, %a", "wait %r#1, %r#0")
    assert "%r_0, %r_1 = soc.for" in str(parse(f"{head}{grouped}\n  func.return\n}}"))
    numbered = grouped.replace("%r", "%0")
    assert str(parse(f"{head}{numbered}\n  func.return\n}}")) == f"{head}{numbered}\n  func.return\n}}"


@pytest.mark.parametrize(
    ("location", "text"),
    [
        (Location(), ""),
        (Location("net.py", 12, 4, "layer1.0", "conv2d"), ' loc("conv2d"("layer1.0"("net.py":12:4)))'),
        (Location("net.py", 12), ' loc("net.py":12:0)'),
        (Location("net.py", 12, node="conv2d"), ' loc("conv2d"("net.py":12:0))'),
        (Location("net.py", 12, module="layer1"), ' loc(""("layer1"("net.py":12:0)))'),
        (Location(module="layer1"), ' loc(""("layer1"))'),
        (Location(node="conv2d"), ' loc("conv2d")'),
        (Location(node="conv2d", module='a"b'), ' loc("conv2d"("a\\22b"))'),
    ],
)
def test_locations(location, text, roundtrip):
    module, b, _ = function()
    b.add(Return(location=location))
    assert f"func.return{text}\n" in print_op(module, locations=True)
    assert parse(print_op(module, locations=True)).main.body.last.location == location
    roundtrip(module)


def test_what_does_not_fit_its_form_is_written_in_the_generic_form():
    module, b, _ = function()
    launch = soc.Launch(regions=[Block([TOKEN])], engine=Symbol("ane"))  # no launch takes an argument
    b.add(launch)
    b.add(Return())
    assert '"soc.launch"() ({\n  ^bb0(%1: !soc.token):\n  }) {engine = @ane} : () -> !soc.token' in str(module)
    assert str(parse(str(module), check=False)) == str(module)


def test_a_module_is_written_only_where_it_says_something(roundtrip):
    assert str(parse("")) == ""
    module = parse(PRETTY)
    module.attributes["target"] = "m4"
    assert str(module).startswith('"builtin.module"() ({\n  func.func @main(')
    assert str(module).endswith('}) {tilewright.target = "m4"} : () -> ()')
    roundtrip(module)


def test_an_op_by_itself():
    relu = parse(PRETTY).main.body.last.prev
    assert str(relu) == "%0 = graph.relu %y {engine = @ane} : tensor<1x8x4x4xf16>"


def test_mlir_says_what_it_does_not_take():
    with pytest.raises(MLIRError, match="custom op 'nonsense'"):
        through_mlir("nonsense")
