"""A pruned network as data: the unpruned architecture, the blocks it lost, and the shapes of what is left."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn

from pipeline.candidate import Architecture
from pipeline.models.checkpoint import fit_module_to_state
from pipeline.pruning.blocks import drop


def shapes_of(module: nn.Module) -> dict[str, list[int]]:
    """The shape of every tensor of the network's state."""
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def pruned(architecture: Architecture, *, dropped: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """The empty network without the blocks `dropped`, its layers cut to `shapes`."""
    module = architecture()
    drop(module, dropped)
    fit_module_to_state(module, {name: torch.zeros(tuple(shape)) for name, shape in shapes.items()})
    return module


def pruned_architecture(
    architecture: Architecture, *, dropped: Sequence[str], shapes: Mapping[str, Sequence[int]]
) -> Architecture:
    """`pruned` with its arguments bound."""
    return partial(pruned, architecture, dropped=dropped, shapes=shapes)
