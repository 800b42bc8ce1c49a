"""Optimisers as settings: a frozen dataclass that makes a torch optimiser for given parameters.

Biases and normalisation weights are not decayed (He et al. 2019, "Bag of Tricks", arXiv:1812.01187, section 3.1).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn


class Optimizer(Protocol):
    """Settings that make an optimiser; `lr` is its peak learning rate."""

    @property
    def lr(self) -> float: ...

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer: ...


def groups(parameters: Iterable[nn.Parameter], *, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with two dimensions and more decay; the others do not."""
    listed = [parameter for parameter in parameters if parameter.requires_grad]
    decayed = [parameter for parameter in listed if parameter.dim() > 1]
    free = [parameter for parameter in listed if parameter.dim() <= 1]
    return [
        {"params": members, "weight_decay": decay}
        for members, decay in ((decayed, weight_decay), (free, 0.0))
        if members
    ]


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with Nesterov momentum."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        settings = groups(parameters, weight_decay=self.weight_decay)
        return torch.optim.SGD(settings, lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    lr: float = 1e-3
    weight_decay: float = 1e-2

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups(parameters, weight_decay=self.weight_decay), lr=self.lr)


def learning_rate(step: int, *, steps: int, peak: float, warmup: float) -> float:
    """The rate at `step` of `steps`: linear warm-up over that share of the steps, then half a cosine down to zero.

    Loshchilov & Hutter 2017, "SGDR", arXiv:1608.03983, formula (5), without restarts.
    """
    rising = max(1.0, warmup * steps)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))
