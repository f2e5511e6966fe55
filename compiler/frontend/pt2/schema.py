"""The JSON of an archive (torch's export schema, major version 8): its shape, checked in full before it is used.

An object that holds exactly one of several keys, torch's union, is a `OneOf`. Unknown keys of other objects are left
unread, as torch does: a minor version may add some.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAJOR = 8
MAX_NODES = 100_000
MAX_RANK = 32

_INFINITE = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}
Int = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Float = Annotated[float, BeforeValidator(lambda x: _INFINITE.get(x, x) if isinstance(x, str) else x)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=250)]  # of a value: a Python identifier
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", max_length=1000)]  # layer1.0.conv.weight
Text = Annotated[str, Field(max_length=2000)]
Note = Annotated[str, Field(max_length=1_000_000)]  # a stack trace


class Object(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class OneOf(BaseModel):
    """`{"as_int": 3}`: kind "as_int", value 3."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _one(self) -> OneOf:
        if len(self.model_fields_set) != 1:
            raise ValueError("exactly one key is needed")
        return self

    @property
    def kind(self) -> str:
        return next(iter(self.model_fields_set))

    @property
    def value(self) -> Any:
        return getattr(self, self.kind)


_ABSENT: Any = None  # the default of a OneOf's field, never read


class Hint(OneOf):
    as_int: Int = _ABSENT
    as_bool: bool = _ABSENT
    as_float: Float = _ABSENT


class Expression(Object):
    expr_str: Text
    hint: Hint | None = None


class Size(OneOf):
    as_expr: Expression = _ABSENT
    as_int: Int = _ABSENT


class Device(Object):
    type: Text
    index: Int | None = None


class TensorMeta(Object):
    dtype: Int
    sizes: Annotated[list[Size], Field(max_length=MAX_RANK)]
    strides: Annotated[list[Size], Field(max_length=MAX_RANK)]
    storage_offset: Size
    layout: Int


class Named(Object):
    name: Name


class SymInt(OneOf):
    as_name: Name = _ABSENT
    as_int: Int = _ABSENT


class SymFloat(OneOf):
    as_name: Name = _ABSENT
    as_float: Float = _ABSENT


class SymBool(OneOf):
    as_name: Name = _ABSENT
    as_bool: bool = _ABSENT


class OptionalTensor(OneOf):
    as_tensor: Named = _ABSENT
    as_none: bool = _ABSENT


class GraphArgument(Object):
    name: Name
    graph: Graph


class Complex(Object):
    real: Float
    imag: Float


class Argument(OneOf):
    as_none: bool = _ABSENT
    as_tensor: Named = _ABSENT
    as_tensors: list[Named] = _ABSENT
    as_int: Int = _ABSENT
    as_ints: list[Int] = _ABSENT
    as_float: Float = _ABSENT
    as_floats: list[Float] = _ABSENT
    as_string: Text = _ABSENT
    as_strings: list[Text] = _ABSENT
    as_sym_int: SymInt = _ABSENT
    as_sym_ints: list[SymInt] = _ABSENT
    as_sym_float: SymFloat = _ABSENT
    as_sym_floats: list[SymFloat] = _ABSENT
    as_sym_bool: SymBool = _ABSENT
    as_sym_bools: list[SymBool] = _ABSENT
    as_scalar_type: Int = _ABSENT
    as_memory_format: Int = _ABSENT
    as_layout: Int = _ABSENT
    as_device: Device = _ABSENT
    as_bool: bool = _ABSENT
    as_bools: list[bool] = _ABSENT
    as_optional_tensor: OptionalTensor = _ABSENT
    as_optional_tensors: list[OptionalTensor] = _ABSENT
    as_nested_tensors: list[list[Named]] = _ABSENT
    as_int_lists: list[list[Int]] = _ABSENT
    as_float_lists: list[list[Float]] = _ABSENT
    as_complex: Complex = _ABSENT
    as_graph: GraphArgument = _ABSENT
    as_operator: Text = _ABSENT
    as_custom_obj: Named = _ABSENT
    as_string_to_argument: dict[Text, Argument] = _ABSENT


class NamedArgument(Object):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]*$", max_length=250)]
    arg: Argument
    kind: Annotated[int, Field(ge=0, le=2)] | None = None


class Node(Object):
    target: Text
    inputs: list[NamedArgument]
    outputs: list[Argument]
    metadata: dict[Text, Note]
    is_hop_single_tensor_return: bool | None = None
    name: Name | None = None


class Graph(Object):
    inputs: list[Argument]
    outputs: list[Argument]
    nodes: Annotated[list[Node], Field(max_length=MAX_NODES)]
    tensor_values: dict[Text, TensorMeta]
    sym_int_values: dict[Text, Size]
    is_single_tensor_return: bool = False


class Constant(OneOf):
    as_none: bool = _ABSENT
    as_int: Int = _ABSENT
    as_float: Float = _ABSENT
    as_string: Text = _ABSENT
    as_bool: bool = _ABSENT


class UserInput(Object):
    arg: Argument


class ConstantInput(Object):
    name: Text
    value: Constant


class Parameter(Object):
    arg: Named
    parameter_name: Key


class Buffer(Object):
    arg: Named
    buffer_name: Key
    persistent: bool


class TensorConstant(Object):
    arg: Named
    tensor_constant_name: Key


class InputSpec(OneOf):
    user_input: UserInput = _ABSENT
    parameter: Parameter = _ABSENT
    buffer: Buffer = _ABSENT
    tensor_constant: TensorConstant = _ABSENT
    constant_input: ConstantInput = _ABSENT
    custom_obj: dict[str, Any] = _ABSENT
    token: dict[str, Any] = _ABSENT


class UserOutput(Object):
    arg: Argument


class BufferMutation(Object):
    arg: Named
    buffer_name: Key


class InputMutation(Object):
    arg: Named
    user_input_name: Name


class OutputSpec(OneOf):
    user_output: UserOutput = _ABSENT
    buffer_mutation: BufferMutation = _ABSENT
    user_input_mutation: InputMutation = _ABSENT
    loss_output: dict[str, Any] = _ABSENT
    gradient_to_parameter: dict[str, Any] = _ABSENT
    gradient_to_user_input: dict[str, Any] = _ABSENT
    parameter_mutation: dict[str, Any] = _ABSENT
    token: dict[str, Any] = _ABSENT


class Signature(Object):
    input_specs: list[InputSpec]
    output_specs: list[OutputSpec]


class GraphModule(Object):
    graph: Graph
    signature: Signature


class Range(Object):
    min_val: Int | None = None
    max_val: Int | None = None


class SchemaVersion(Object):
    major: Int
    minor: Int


class Versioned(Object):
    """Only the version, which says whether the rest can be understood."""

    schema_version: SchemaVersion


class Program(Versioned):
    graph_module: GraphModule
    range_constraints: dict[Text, Range]


class Payload(Object):
    """Where a stored tensor's bytes are."""

    path_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]+$", max_length=255)]
    is_param: bool
    use_pickle: bool
    tensor_meta: TensorMeta | None


class Payloads(Object):
    config: dict[Key, Payload]
