"""Channels that can only go together: the dependency groups of a network.

An addition ties the outputs of two convolutions, a batch norm follows its convolution, the next layer loses the inputs
that the one before no longer gives. Torch-Pruning (Fang et al. 2023, "DepGraph", arXiv:2301.12900) finds these
groups; here each is tried on a copy before it is believed, because a network may depend on a width in its code.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

ROOTS = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Group:
    """Channels of the layer `root` (a name), with everything that depends on them.

    channels: how many · members: the layers whose outputs shrink with it
    """

    root: str
    channels: int
    members: tuple[str, ...]


class Dependencies:
    """The dependency graph of one network; cuts are made in that network."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module = module
        self.example = example
        with torch.enable_grad():  # the graph is read from autograd
            self.graph = torch_pruning.DependencyGraph().build_dependency(module, example_inputs=example)
        self.names = {layer: name for name, layer in module.named_modules()}

    def group(self, root: str, places: Sequence[int]) -> Any:
        """Torch-Pruning's group for cutting the outputs `places` of the layer `root`."""
        layer = self.module.get_submodule(root)
        pruner = self.graph.get_pruner_of_module(layer)
        return self.graph.get_pruning_group(layer, pruner.prune_out_channels, idxs=list(places))

    def groups(self) -> list[Group]:
        """All groups that the network survives when half their channels go, and that leave its answers' shape alone."""
        found: dict[frozenset[str], Group] = {}
        for name, layer in self.module.named_modules():
            if not isinstance(layer, ROOTS) or (getattr(layer, "groups", 1) > 1):
                continue
            channels = int(layer.weight.shape[0])
            members = self._outputs(name, channels)
            if channels > 1 and members not in found and survives(self.module, name, self.example):
                found[members] = Group(name, channels, tuple(sorted(members)))
        return list(found.values())

    def _outputs(self, root: str, channels: int) -> frozenset[str]:
        group = self.group(root, range(channels))
        return frozenset(
            self.names[item.dep.target.module]
            for item in group.items
            if item.dep.target.module in self.names
            and isinstance(item.dep.target.module, ROOTS)
            and "out_channels" in item.dep.handler.__name__
        )


def survives(module: nn.Module, root: str, example: Tensor) -> bool:
    """Whether a copy of the network still answers, in the same shape, when half the channels of `root` are cut."""
    trial = copy.deepcopy(module)
    with torch.no_grad():
        expected = trial(example).shape
    try:
        dependencies = Dependencies(trial, example)
        layer: Any = trial.get_submodule(root)
        channels = int(layer.weight.shape[0])
        group = dependencies.group(root, range(channels // 2))
        if not dependencies.graph.check_pruning_group(group):
            return False
        group.prune()
        with torch.no_grad():
            return bool(trial(example).shape == expected)
    except (RuntimeError, ValueError, IndexError, KeyError, AttributeError, TypeError, AssertionError):
        return False  # the network's own code holds on to this width
