"""LSTM, GRU and plain recurrent layers, unrolled over their steps; products with the inputs are taken all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilewright.compiler.ir import Value

from ..emitter import Emitter
from .contraction import linear
from .registry import aten, lowers

State = tuple[Value, ...]
Cell = Callable[[Emitter, Value, State, Value, Value | None], State]  # (inputs' part, state, weight, bias) -> state


def _parts(e: Emitter, gates: Value, count: int) -> list[Value]:
    size = gates.type.shape[-1] // count
    return [e.slice_axis(gates, gates.type.rank - 1, i * size, size) for i in range(count)]


def _lstm_cell(e: Emitter, given: Value, state: State, weight: Value, bias: Value | None) -> State:
    hidden, cell = state
    gates = e.apply("add", given, linear(e, hidden, weight, bias))
    i, f, g, o = _parts(e, gates, 4)
    kept = e.apply("mul", e.apply("sigmoid", f), cell)
    cell = e.apply("add", kept, e.apply("mul", e.apply("sigmoid", i), e.apply("tanh", g)))
    return e.apply("mul", e.apply("sigmoid", o), e.apply("tanh", cell)), cell


def _gru_cell(e: Emitter, given: Value, state: State, weight: Value, bias: Value | None) -> State:
    (hidden,) = state
    r, z, n = _parts(e, given, 3)
    hr, hz, hn = _parts(e, linear(e, hidden, weight, bias), 3)
    reset, update = e.apply("sigmoid", e.apply("add", r, hr)), e.apply("sigmoid", e.apply("add", z, hz))
    new = e.apply("tanh", e.apply("add", n, e.apply("mul", reset, hn)))
    return (e.apply("add", new, e.apply("mul", update, e.apply("sub", hidden, new))),)


def _plain_cell(function: str) -> Cell:
    def cell(e: Emitter, given: Value, state: State, weight: Value, bias: Value | None) -> State:
        return (e.apply(function, e.apply("add", given, linear(e, state[0], weight, bias))),)

    return cell


def _layers(
    e: Emitter,
    cell: Cell,
    x: Value,
    states: Sequence[Value],
    weights: Sequence[Value],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[Value]:
    """The outputs of the last layer, then the last value of each state: [layers * directions, batch, size].

    `weights` holds for each layer and direction those of the inputs, those of the state, both biases where there are
    any, and the projection of the outputs where there is one.
    """
    if train and dropout:
        e.unsupported("a recurrent layer with dropout in training; call model.eval()")
    if x.type.rank != 3:
        e.unsupported("a recurrent layer over a packed sequence")
    directions = 2 if bidirectional else 1
    each = len(weights) // (layers * directions)
    x = e.transpose(x, (1, 0, 2)) if batch_first else x
    last: list[State] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            at = layer * directions + direction
            w_in, w_hidden, *biases = weights[at * each : (at + 1) * each]
            projection = biases.pop() if each % 2 else None
            state: State = tuple(_row(e, s, at) for s in states)
            given = linear(e, x, w_in, biases[0] if biases else None)
            steps = range(x.type.shape[0])
            made: dict[int, Value] = {}
            for t in reversed(steps) if direction else steps:
                state = cell(e, _row(e, given, t), state, w_hidden, biases[1] if biases else None)
                if projection is not None:
                    state = (linear(e, state[0], projection), *state[1:])
                made[t] = e.reshape(state[0], (1, *state[0].type.shape))
            outputs.append(e.concat([made[t] for t in steps], 0))
            last.append(state)
        x = e.concat(outputs, 2)
    y = e.transpose(x, (1, 0, 2)) if batch_first else x
    ends = [e.concat([e.reshape(s[i], (1, *s[i].type.shape)) for s in last], 0) for i in range(len(states))]
    return [y, *ends]


def _row(e: Emitter, x: Value, index: int) -> Value:
    return e.reshape(e.slice_axis(x, 0, index, 1), x.type.shape[1:])


@lowers(aten.lstm.input)
def lstm(
    e: Emitter,
    x: Value,
    states: Sequence[Value],
    weights: Sequence[Value],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[Value]:
    return _layers(e, _lstm_cell, x, states, weights, has_biases, layers, dropout, train, bidirectional, batch_first)


@lowers(aten.gru.input)
def gru(e: Emitter, x: Value, state: Value, weights: Sequence[Value], *rest: bool) -> list[Value]:
    return _layers(e, _gru_cell, x, [state], weights, *rest)  # type: ignore[arg-type]


@lowers(aten.rnn_tanh.input)
def rnn_tanh(e: Emitter, x: Value, state: Value, weights: Sequence[Value], *rest: bool) -> list[Value]:
    return _layers(e, _plain_cell("tanh"), x, [state], weights, *rest)  # type: ignore[arg-type]


@lowers(aten.rnn_relu.input)
def rnn_relu(e: Emitter, x: Value, state: Value, weights: Sequence[Value], *rest: bool) -> list[Value]:
    return _layers(e, _plain_cell("relu"), x, [state], weights, *rest)  # type: ignore[arg-type]
