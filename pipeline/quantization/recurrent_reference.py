"""The recurrent operators of ONNX in numpy, step by step: integers where the runtime multiplies integers.

    LSTM                  gates i o f c:   C' = σ(f) ∘ C + σ(i) ∘ tanh(c),   h' = σ(o) ∘ tanh(C')
    GRU                   gates z r h:     h' = (1 − z) ∘ tanh(x + σ(r) ∘ y) + z ∘ h   (linear_before_reset)
    RNN                   h' = tanh or ReLU of the sum
    DynamicQuantizeLSTM   LSTM whose inputs, all at once, and whose state, at every step, are rounded to codes 0..255

Source: the operators' descriptions in ONNX and ONNX Runtime. onnx.reference knows one direction and not the last one.

Letters: T steps, N inputs (the rounding takes one range over all of them), D directions, H units, G gates; x, y what a
gate gets from the inputs and from the state, z, r gates, C the state of an LSTM's cell.
"""

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from pipeline.quantization.quantized_graph import attribute

OPERATORS = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
CODES = 255  # the highest one
Product = Callable[[np.ndarray], np.ndarray]


def recurrent_outputs(node: NodeProto, given: list[np.ndarray | None]) -> list[np.ndarray]:
    """Y (T, D, N, H), Y_h (D, N, H) and of an LSTM Y_c; given: every input in order, None where it is left out."""
    given = [*given, *[None] * (12 - len(given))]
    inputs, bias = given[0], given[3]
    assert inputs is not None
    hidden, word = attribute(node, "hidden_size", 0), attribute(node, "direction", b"forward")
    backwards = {b"forward": [False], b"reverse": [True], b"bidirectional": [False, True]}[word]
    if node.op_type == "GRU" and not attribute(node, "linear_before_reset", 0):
        raise ValueError("a GRU that resets before it multiplies")
    runs = []
    for place, reverse in enumerate(backwards):
        of_inputs, of_state = (_product(node, given, which, place) for which in (1, 2))
        added = np.zeros(()) if bias is None else bias[place].astype(np.float64)
        added_x, added_h = (added, added) if bias is None else np.split(added, 2)
        begin = np.zeros((2, inputs.shape[1], hidden))
        for which in (5, 6):
            first = given[which]
            if first is not None:
                begin[which - 5] = first[place]
        gates = of_inputs(inputs) + added_x  # (T, N, G·H)
        steps, end = _steps(node, gates[::-1] if reverse else gates, lambda h: of_state(h) + added_h, begin)  # noqa: B023 used at once
        runs.append((steps[::-1] if reverse else steps, *end))
    several = [np.stack(each, 1 if number == 0 else 0) for number, each in enumerate(zip(*runs, strict=True))]
    return [each.astype(np.float32) for each in several]


def _steps(
    node: NodeProto, gates: np.ndarray, of_state: Product, begin: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    hidden, cell = begin
    steps = []
    for x in gates:
        y = of_state(hidden)
        if node.op_type == "GRU":
            (xz, xr, xh), (yz, yr, yh) = np.split(x, 3, -1), np.split(y, 3, -1)
            keep = _sigmoid(xz + yz)
            hidden = (1 - keep) * np.tanh(xh + _sigmoid(xr + yr) * yh) + keep * hidden
        elif node.op_type == "RNN":
            relu = b"Relu" in attribute(node, "activations", [])
            hidden = np.maximum(x + y, 0) if relu else np.tanh(x + y)
        else:
            i, o, f, c = np.split(x + y, 4, -1)
            cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(c)
            hidden = _sigmoid(o) * np.tanh(cell)
        steps.append(hidden)
    return np.stack(steps), (hidden, cell) if node.op_type.endswith("LSTM") else (hidden,)


def _product(node: NodeProto, given: list[np.ndarray | None], which: int, place: int) -> Product:
    """Multiplies by W (1) or R (2) of one direction."""
    weights = given[which]
    assert weights is not None
    if node.op_type != "DynamicQuantizeLSTM":
        matrix = weights[place].astype(np.float64)  # (G·H, I)
        return lambda values: values @ matrix.T
    scales, zeros = given[6 + 2 * which], given[7 + 2 * which]
    assert scales is not None
    assert zeros is not None
    whole = weights[place].astype(np.int64) - zeros[place].astype(np.int64)  # (I, G·H)
    row_scales = scales[place].astype(np.float64)

    def multiply(values: np.ndarray) -> np.ndarray:
        codes, scale = rounded_codes(values.astype(np.float32))
        result: np.ndarray = (codes @ whole) * (row_scales * scale)
        return result

    return multiply


def rounded_codes(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Whole steps from zero, and the step: 255 of them from the lowest value to the highest, with 0 among them."""
    low, high = min(np.float32(0), values.min()), max(np.float32(0), values.max())
    scale = np.float32((high - low) / np.float32(CODES)) or np.float32(1)
    zero = np.clip(np.rint(-low / scale), 0, CODES)
    return (np.clip(np.rint(values / scale) + zero, 0, CODES) - zero).astype(np.int64), float(scale)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-values))
    return result
