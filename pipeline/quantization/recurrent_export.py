"""A recurrent layer on its integer grid as ONNX: one operator for each layer, its weights stored as integers.

    weights alone   DequantizeLinear(W), DequantizeLinear(R) → LSTM | GRU | RNN
    dynamic         com.microsoft DynamicQuantizeLSTM(W, R, their scales)

torch and ONNX keep the same gates in another order, so rows are put in ONNX's before they are rounded:

    LSTM   torch i f g o   ONNX i o f c (c is g)          GRU   torch r z n   ONNX z r h (h is n)

Letters: T steps, N inputs, I features, H units, D directions, G gates; W, R weights for inputs and state, B biases.
"""

from typing import Any

import torch
from torch import Tensor

from pipeline.quantization.recurrent_cells import Cells, State

GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN_TANH": (0,), "RNN_RELU": (0,)}  # ONNX's order, of torch's


def written(
    cells: Cells, inputs: Tensor, state: State | None, weights: list[Tensor], points: list[Any],
    biases: list[Tensor],
) -> tuple[Tensor, ...]:  # fmt: skip
    """`cells` on these inputs, with a form that torch's exporter writes."""
    limits = [(point.scale * point.highest)[:, None] for point in points]  # the last training step may lead beyond
    weights = [torch.minimum(torch.maximum(each, -most), most) for each, most in zip(weights, limits, strict=True)]
    grids = [each for point in points for each in (point.scale, point.zero)]
    tensors = (inputs, *(state or ()), *weights, *grids, *biases)
    shape = [int(size) for size in inputs.shape[:2]]  # the exporter forgets those of an operator it does not know
    result: tuple[Tensor, ...] = _Written.apply(cells, shape, state is not None, *tensors)  # type: ignore[no-untyped-call]
    return result


class _Written(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cells: Cells, shape: list[int], begun: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs, state, weights, scales, _, biases = _parts(cells, begun, tensors)
        if torch.onnx.is_in_onnx_export():  # only the shapes are read, and the tracer stumbles over what is in the loop
            ends = [torch.zeros(cells.directions, shape[1], cells.hidden) for _ in range(cells.states)]
            return torch.zeros(*shape, cells.directions * cells.hidden), *ends
        rows = [scale[:, None].to(inputs.dtype) for scale in scales]
        on_grid = [(weight / row).round() * row for weight, row in zip(weights, rows, strict=True)]
        if not state:
            state = (inputs.new_zeros(cells.directions, inputs.shape[1], cells.hidden),) * cells.states
        return cells(inputs, tuple(state), on_grid, list(biases))

    @staticmethod
    def symbolic(g: Any, cells: Cells, shape: list[int], begun: bool, *tensors: Any) -> Any:
        inputs, state, weights, scales, zeros, biases = _parts(cells, begun, tensors)
        gates = GATES[cells.kind]
        rows = g.op("Constant", value_t=torch.cat([torch.arange(cells.hidden) + cells.hidden * gate for gate in gates]))

        def ordered(several: Any) -> Any:
            parts = [g.op("Gather", each, rows, axis_i=0) for each in several]
            return g.op("Concat", *parts, axis_i=0) if len(parts) > 1 else parts[0]

        def shaped(tensor: Any, *sizes: int) -> Any:
            return g.op("Reshape", tensor, g.op("Constant", value_t=torch.tensor(sizes)))

        height = cells.hidden * len(gates)
        stored, grids = [], []
        for kind in (slice(0, None, 2), slice(1, None, 2)):  # W, then R
            scale, zero = ordered(scales[kind]), ordered(zeros[kind])
            codes = g.op("QuantizeLinear", ordered(weights[kind]), scale, zero, axis_i=0)  # (D·G·H, I)
            if cells.dynamic:
                codes = g.op("Transpose", shaped(codes, cells.directions, height, -1), perm_i=[0, 2, 1])
                grids += [shaped(each, cells.directions, height) for each in (scale, zero)]
            else:
                floats = g.op("DequantizeLinear", codes, scale, zero, axis_i=0)
                codes = shaped(floats, cells.directions, height, -1)
            stored.append(codes)
        bias = _left_out(g)
        if biases:
            parts = [g.op("Gather", each, rows, axis_i=0) for each in biases]
            bias = shaped(g.op("Concat", *parts, axis_i=0), cells.directions, 2 * height)
        settings: dict[str, Any] = {"hidden_size_i": cells.hidden, "outputs": 1 + cells.states}
        if cells.directions == 2:
            settings["direction_s"] = "bidirectional"
        read = [inputs, *stored, bias, _left_out(g), *state]
        if cells.dynamic:
            empty = [_left_out(g) for _ in range(3 - len(state))]  # the initial state, and peepholes
            made = g.op("com.microsoft::DynamicQuantizeLSTM", *read, *empty, *grids, **settings)
        else:
            if cells.kind == "GRU":
                settings["linear_before_reset_i"] = 1
            elif cells.kind != "LSTM":
                settings["activations_s"] = [cells.kind.removeprefix("RNN_").capitalize()] * cells.directions
            made = g.op(cells.kind.split("_")[0], *read, **settings)
        length, count = shape
        all_sizes = [[length, cells.directions, count, cells.hidden], *[[cells.directions, count, cells.hidden]] * 2]
        for output, sizes in zip(made, all_sizes, strict=False):
            output.setType(inputs.type().with_sizes(sizes))
        steps = made[0] if cells.directions == 1 else g.op("Transpose", made[0], perm_i=[0, 2, 1, 3])
        return shaped(steps, length, count, cells.directions * cells.hidden), *made[1:]  # (T, N, D·H)


def _parts(cells: Cells, begun: bool, tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inputs, state, and of each direction W and R: weights, their scales, their zero points, biases."""
    first = 1 + (cells.states if begun else 0)
    count = 2 * cells.directions
    weights, grids = tensors[first : first + count], tensors[first + count : first + 3 * count]
    return tensors[0], tensors[1:first], weights, grids[::2], grids[1::2], tensors[first + 3 * count :]


def _left_out(g: Any) -> Any:
    """What stands for an optional input that is not given, in the way of torch's own exporter."""
    nothing = g.op("prim::Constant")
    nothing.setType(torch._C.OptionalType.ofTensor())
    return nothing
