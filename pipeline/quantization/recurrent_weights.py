"""Recurrent layers of torch whose weights pass through quantizers, with a scale for every row: each gate of each unit.

    weights alone   8 bits; the runtime multiplies floats on that grid
    dynamic         7 bits; an LSTM for ONNX Runtime, which multiplies integers: what is multiplied is rounded, too
                    (recurrent_cells.py)

Measured with ONNX Runtime 1.31 (decision 0023): dynamic LSTMs take 0.4 to 0.9 of the float one's time, recurrent layers
with weights alone 0.9 to 1.15.

Letters: T steps, N inputs of a batch, I features, H units, D directions.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.quantization.fake_quant import channel_amax, is_quantizer, weight_quantizer
from pipeline.quantization.recurrent_cells import Cells, State
from pipeline.quantization.recurrent_export import written
from targets.target import Scheme

QUANTIZED = (nn.LSTM, nn.GRU, nn.RNN)
WEIGHT_BITS = 8  # where the products are of floats, and nothing saturates
INTEGER_BITS = 7  # two neighbouring products of 8-bit numbers saturate on x86 without VNNI; the same on every machine


class QuantizedRecurrent(nn.Module):
    """An nn.LSTM, nn.GRU or nn.RNN whose weights pass through quantizers.

    While training, the scales follow the weights. Called as the layer is.
    """

    def __init__(self, layer: nn.RNNBase, *, bits: int, dynamic: bool) -> None:
        super().__init__()
        self.layer = layer
        self.dynamic = dynamic
        names = [name for name, _ in layer.named_parameters() if name.startswith("weight_")]
        self.quantizers = nn.ModuleDict(
            {name: weight_quantizer(getattr(layer, name), bits=bits, axis=0) for name in names}
        )

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        layer, directions = self.layer, 2 if self.layer.bidirectional else 1
        cells = Cells(layer.mode, layer.hidden_size, directions, self.dynamic)
        values = inputs.transpose(0, 1) if layer.batch_first else inputs  # (T, N, I)
        given: State | None = None
        if state is not None:
            given = tuple(state) if isinstance(state, (tuple, list)) else (state,)
        ends: list[State] = []
        for number in range(layer.num_layers):
            if number and layer.dropout:
                values = F.dropout(values, layer.dropout, self.training)
            here = slice(number * directions, (number + 1) * directions)
            first = None if given is None else tuple(each[here] for each in given)
            values, *end = self._one(cells, number, values, first)
            ends.append(tuple(end))
        last = [each[0] if len(each) == 1 else torch.cat(each) for each in zip(*ends, strict=True)]
        outputs = values.transpose(0, 1) if layer.batch_first else values
        return outputs, tuple(last) if cells.states == 2 else last[0]

    def _one(self, cells: Cells, number: int, values: Tensor, first: State | None) -> tuple[Tensor, ...]:
        endings = [f"l{number}{way}" for way in ("", "_reverse")[: cells.directions]]
        weights = [f"weight_{kind}_{ending}" for ending in endings for kind in ("ih", "hh")]
        biases = [getattr(self.layer, name.replace("weight", "bias")) for name in weights] if self.layer.bias else []
        quantizers = [self.quantizers[name] for name in weights]
        if not all(is_quantizer(each) for each in quantizers):  # grid points: about to be exported
            return written(cells, values, first, [getattr(self.layer, name) for name in weights], quantizers, biases)
        on_grid = [self._on_grid(name) for name in weights]
        if first is None:
            first = (values.new_zeros(cells.directions, values.shape[1], cells.hidden),) * cells.states
        return cells(values, first, on_grid, biases)

    def _on_grid(self, name: str) -> Tensor:
        weight: Tensor = getattr(self.layer, name)
        quantizer: Any = self.quantizers[name]
        if self.training:
            quantizer._amax.copy_(channel_amax(weight, axis=0))
        result: Tensor = quantizer(weight)
        return result


def quantized_recurrent(layer: nn.Module, scheme: Scheme) -> QuantizedRecurrent:
    """The layer with the weights that the target's kernels take."""
    assert isinstance(layer, QUANTIZED)
    dynamic = multiplies_integers(layer, scheme)
    return QuantizedRecurrent(layer, bits=INTEGER_BITS if dynamic else WEIGHT_BITS, dynamic=dynamic)


def multiplies_integers(layer: nn.Module, scheme: Scheme) -> bool:
    """Whether the target's runtime has an operator that does: ONNX Runtime, for LSTMs alone."""
    return isinstance(layer, nn.LSTM) and not scheme.symmetric


def is_quantizable(layer: nn.Module | None) -> bool:
    """Whether it is a recurrent layer that ONNX has an operator for; it has none for an LSTM with projections."""
    return isinstance(layer, QUANTIZED) and not layer.proj_size


def why_float(layer: nn.Module) -> str:
    """What the report says of a layer whose weights alone are quantized."""
    return (
        f"its weights have {WEIGHT_BITS} bits and a scale per row, and are multiplied as floats: the runtime has no "
        f"integer operator for {type(layer).__name__}"
    )
