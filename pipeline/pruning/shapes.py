"""A pruned network as data: the unpruned architecture and the shapes its tensors have now."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn

from pipeline.candidate import Architecture
from pipeline.models.checkpoint import fit_module_to_state


def shapes_of(module: nn.Module) -> dict[str, list[int]]:
    """The shape of every tensor of the network's state."""
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def fitted(architecture: Architecture, shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """The empty network with its layers cut to `shapes`."""
    module = architecture()
    fit_module_to_state(module, {name: torch.zeros(tuple(shape)) for name, shape in shapes.items()})
    return module


def fitted_architecture(architecture: Architecture, shapes: Mapping[str, Sequence[int]]) -> Architecture:
    """`fitted` with its arguments bound."""
    return partial(fitted, architecture, shapes)
