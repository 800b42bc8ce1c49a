"""The steps of one recurrent layer on given weights, as torch takes them or with what is multiplied rounded.

ONNX Runtime's DynamicQuantizeLSTM rounds the inputs of a layer, over all steps at once, and its state, at every step,
to codes 0..255 of the range that they happen to have:

    low = min(0, min x),  high = max(0, max x),  s = (high − low) / 255,  z = round(−low / s)
    q(x) = s · (clip( round(x / s) + z, 0, 255 ) − z)

The engine answers one input at a time, so each input of a batch has ranges of its own here. The gradient passes as if
nothing was rounded: nothing is clipped.

Letters: T steps, N inputs of a batch, H units, D directions; low, high the range of a tensor x of one input, s step, z
zero point.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.quantization.affine_quantizer import STEPS

FLAT_LOOPS = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}

State = tuple[Tensor, ...]  # h, and of an LSTM c; (D, N, H) each


@dataclass(frozen=True)
class Cells:
    """One layer of a recurrent network. kind: torch's word · hidden: H · dynamic: products of integers"""

    kind: str
    hidden: int
    directions: int
    dynamic: bool

    @property
    def states(self) -> int:
        """How many tensors a state is."""
        return 2 if self.kind == "LSTM" else 1

    def __call__(self, inputs: Tensor, state: State, weights: list[Tensor], biases: list[Tensor]) -> tuple[Tensor, ...]:
        """The outputs of every step (T, N, D·H), and the state at the end.

        weights, biases: of each direction that for the inputs and that for the state, already on their grid
        """
        if self.dynamic:
            return self._rounding(inputs, state, weights, biases)
        flat = [each for place in range(0, len(weights), 2) for each in (*weights[place : place + 2],
                                                                       *biases[place : place + 2])]  # fmt: skip
        first = state if self.states == 2 else state[0]
        result: tuple[Tensor, ...] = FLAT_LOOPS[self.kind](
            inputs, first, flat, bool(biases), 1, 0.0, False, self.directions == 2, False
        )  # type: ignore[operator]
        return result

    def _rounding(
        self, inputs: Tensor, state: State, weights: list[Tensor], biases: list[Tensor]
    ) -> tuple[Tensor, ...]:
        outputs, ends = [], []
        inputs = rounded(inputs, axes=(0, 2))
        for direction in range(self.directions):
            pair = slice(2 * direction, 2 * direction + 2)
            of_inputs, of_state = weights[pair]
            hidden, cell = (each[direction] for each in state)  # (N, H)
            gates = F.linear(inputs, of_inputs, biases[pair][0] + biases[pair][1] if biases else None)  # (T, N, 4·H)
            steps: list[Tensor] = []
            for step in reversed(gates.unbind()) if direction else gates.unbind():
                i, f, g, o = (step + F.linear(rounded(hidden, axes=(1,)), of_state)).chunk(4, dim=1)
                cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
                hidden = torch.sigmoid(o) * torch.tanh(cell)
                steps.append(hidden)
            outputs.append(torch.stack(steps[::-1] if direction else steps))
            ends.append((hidden, cell))
        return torch.cat(outputs, 2), *(torch.stack(each) for each in zip(*ends, strict=True))


def rounded(values: Tensor, *, axes: tuple[int, ...]) -> Tensor:
    """q(x) with one range over these axes of `values`."""
    kept = values.detach()
    low, high = kept.amin(axes, keepdim=True).clamp(max=0), kept.amax(axes, keepdim=True).clamp(min=0)
    scale = (high - low) / STEPS
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    zero = (-low / scale).round().clamp(0, STEPS)
    codes = ((kept / scale).round() + zero).clamp(0, STEPS)
    on_grid = (codes - zero) * scale
    return values + (on_grid - kept) if values.requires_grad else on_grid
