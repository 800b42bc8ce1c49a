"""Which weights of an output channel are multiplied side by side, and how far their products can add up.

Before VNNI, x86 multiplies unsigned codes u with signed codes w by vpmaddubsw, which adds two neighbouring products in
16 bits and saturates: u₁·w₁ + u₂·w₂ must lie in −32768..32767. With u ≤ 255 that holds for certain if

    w₁ + w₂ ≤ 128   of two neighbours of one sign, in magnitude:   255 · 128 = 32 640

Neighbours are the weights 2n and 2n + 1 of a channel, its positions one after the other and input channels within them
(ONNX Runtime), or input channels 2n and 2n + 1 at one position, where these are of an odd number (OpenVINO). Found with
ONNX Runtime 1.31 and OpenVINO 2026.4 on AVX2: of convolutions (1×1, 2×2, 3×3, of 1 to 16 channels, in groups) and
linear layers, each output channel holding two weights of 127 at another pair of places, those two saturated and no
others. Depthwise convolutions run on other kernels, which do not saturate.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPMADDUBSW.

Letters: K output channels, C input channels (of a group), n a pair.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST = 128  # codes of two neighbours of one sign, added


def neighbour_sums(weight: Tensor, *, scattered: bool = False) -> Tensor:
    """The largest magnitude that two neighbours of one sign add up to, of each output channel (K,).

    weight: (K, C, …) · scattered: any two may be neighbours
    """
    largest = torch.zeros(len(weight), dtype=weight.dtype, device=weight.device)
    for side in (weight.clamp_min(0), (-weight).clamp_min(0)):
        if scattered:
            rows = side.flatten(1)
            largest = torch.maximum(largest, rows.topk(min(2, rows.shape[1]), dim=1).values.sum(1))
            continue
        for order in _orders(side):
            largest = torch.maximum(largest, _in_pairs(order).sum(-1).amax(1))
    return largest


def code_pairs(stored: np.ndarray) -> Iterator[np.ndarray]:
    """The stored codes of each output channel, neighbours side by side (K, n, 2), in each order there is.

    stored: (K, C, …); what has no neighbour stands beside 0
    """
    for order in _orders(torch.from_numpy(stored.astype(np.int64))):
        yield _in_pairs(order).numpy()


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each output channel reads one input channel of its own."""
    return isinstance(layer, (nn.Conv1d, nn.Conv2d)) and layer.groups == layer.in_channels == layer.out_channels > 1


def _orders(weight: Tensor) -> Iterator[Tensor]:
    """As kernels read them: (K, values), or (K, positions, C)."""
    last = weight.movedim(1, -1)  # (K, …, C)
    yield last.flatten(1)
    if last.dim() > 2 and last.shape[-1] % 2:
        yield last.flatten(1, -2)


def _in_pairs(rows: Tensor) -> Tensor:
    """(K, n, 2), a 0 behind a row of an odd number."""
    even = F.pad(rows, (0, rows.shape[-1] % 2))
    return even.reshape(len(rows), -1, 2)
