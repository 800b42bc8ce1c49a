"""How much a channel matters: the size of the weights that make it and that read it.

Li et al. 2017, "Pruning Filters for Efficient ConvNets", arXiv:1608.08710, section 3.1, over whole groups as in Fang
et al. 2023, arXiv:2301.12900, section 3.3.

    I(c) = mean over members of ‖W[c]‖², divided by its mean over the channels

So groups of different layers can be ranked together. Letters: W weight, c channel.
"""

from dataclasses import dataclass
from typing import Any

import torch_pruning
from torch import Tensor


@dataclass(frozen=True)
class Magnitude:
    """Squared L2 norm of the weights of a channel."""

    def __call__(self, group: Any) -> Tensor:
        """Scores (channels,) with mean 1."""
        score = torch_pruning.importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer="mean")
        result: Tensor = score(group)
        return result
