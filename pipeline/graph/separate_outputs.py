"""The outputs of a network that has several: one tensor while it is worked on, apart again in the file it becomes.

Everything that compares answers wants one array (N, K): each output flattened from axis 1, one beside the other in the
order of the file. The layer that joins them is the last of the network, and survives tracing as one call. For the
export it is told to hand the outputs on as they are, so that the file has them with their own names and shapes.

Letters: N inputs, K numbers of all outputs together.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from torch import Tensor, nn


class JoinedOutputs(nn.Module):
    """Joins the outputs of a network; names: those of the file, in order."""

    one_call = True  # to whoever traces the network

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.apart = False

    def forward(self, *outputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(N, …) each → (N, K); while `apart`, the outputs as they are."""
        if self.apart:
            return outputs
        return torch.cat([each.reshape(each.shape[0], -1) for each in outputs], 1)


@contextmanager
def outputs_apart(module: nn.Module) -> Iterator[tuple[str, ...]]:
    """Inside the block the network answers with its outputs apart; gives their names, none where it has but one."""
    joints = [each for each in module.modules() if isinstance(each, JoinedOutputs)]
    try:
        for each in joints:
            each.apart = True
        yield joints[0].names if joints else ()
    finally:
        for each in joints:
            each.apart = False


def outputs_named(model: onnx.ModelProto, names: tuple[str, ...]) -> None:
    """Give the outputs of a file these names, in place; another tensor that has such a name gets a longer one."""
    _named(model, [each.name for each in model.graph.output], names)


def doors_named(model: onnx.ModelProto, names: tuple[str, ...]) -> None:
    """Likewise the inputs and the outputs of a file."""
    _named(model, list(doors_of(model)), names)


def doors_of(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names of a file's inputs and outputs."""
    stored = {each.name for each in model.graph.initializer}  # old files list constants among the inputs
    return tuple(each.name for each in (*model.graph.input, *model.graph.output) if each.name not in stored)


def _named(model: onnx.ModelProto, doors: list[str], names: tuple[str, ...]) -> None:
    given = dict(zip(doors, names, strict=True))
    if len(given) < len(names):
        raise ValueError(f"two outputs of the exported file are one tensor: {', '.join(given)}")
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*model.graph.input, *model.graph.initializer)}
    renamed = {name: f"{name}.inner" for name in names if name in taken and name not in given} | given
    for node in model.graph.node:
        for listed in (node.input, node.output):
            for place, name in enumerate(listed):
                listed[place] = renamed.get(name, name)
    graph = model.graph
    for value in (*graph.output, *graph.input, *graph.value_info, *graph.initializer):
        value.name = renamed.get(value.name, value.name)
