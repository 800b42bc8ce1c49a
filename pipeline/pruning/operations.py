"""How many multiply-accumulates a torch network does for one input."""

from typing import Any

import torch
from torch import Tensor, nn


def macs(module: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions and linear layers for one input, counted on a forward pass."""
    counts: list[int] = []

    def count(layer: Any, _inputs: Any, output: Tensor) -> None:
        counts.append(output.numel() // (layer.weight.shape[0]) * layer.weight.numel())

    handles = [
        layer.register_forward_hook(count)
        for layer in module.modules()
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        module.eval()(example)
    for handle in handles:
        handle.remove()
    return sum(counts)
