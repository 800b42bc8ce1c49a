"""Batch normalisation over the whole batch when several processes share it, on CPUs too.

torch's SyncBatchNorm works on GPUs only. Here each process sends the sum and the sum of squares of its part; the
all-reduce is differentiable, so gradients are those of one process with the whole batch. Letters: C channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.workers import Workers


@contextmanager
def batch_norm_synchronised(module: nn.Module, workers: Workers) -> Iterator[None]:
    """Inside the block, every batch norm of `module` sees the batch of all processes."""
    layers: list[Any] = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    if workers.count == 1:
        layers = []
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own forward shows again


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; what each process loses by it is summed likewise."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


def _forward(layer: Any, inputs: Tensor) -> Tensor:
    if not layer.training:
        return torch.nn.functional.batch_norm(
            inputs, layer.running_mean, layer.running_var, layer.weight, layer.bias, False, 0.0, layer.eps
        )
    axes = [axis for axis in range(inputs.dim()) if axis != 1]
    shape = [1, -1] + [1] * (inputs.dim() - 2)
    count = inputs.numel() // inputs.shape[1]
    # Sums are taken around the running mean, the same in every process: E[x²] − E[x]² loses its digits far from zero.
    around = inputs.new_zeros(inputs.shape[1]) if layer.running_mean is None else layer.running_mean.clone()  # (C,)
    moved = inputs - around.reshape(shape)
    sums = torch.cat([moved.sum(axes), (moved * moved).sum(axes), inputs.new_tensor([float(count)])])  # (2C + 1,)
    sums = _SumOverProcesses.apply(sums)  # type: ignore[no-untyped-call]
    channels = inputs.shape[1]
    total = sums[-1]
    offset = sums[:channels] / total  # (C,)
    mean = around + offset  # (C,)
    variance = (sums[channels:-1] / total - offset * offset).clamp_min(0.0)  # (C,)
    if layer.track_running_stats:
        with torch.no_grad():
            layer.num_batches_tracked += 1
            share = layer.momentum if layer.momentum is not None else 1.0 / float(layer.num_batches_tracked)
            layer.running_mean.lerp_(mean, share)
            layer.running_var.lerp_(variance * total / (total - 1), share)
    normal: Tensor = (moved - offset.reshape(shape)) * torch.rsqrt(variance.reshape(shape) + layer.eps)
    if layer.weight is not None:
        normal = normal * layer.weight.reshape(shape) + layer.bias.reshape(shape)
    return normal
