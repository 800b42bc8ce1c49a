"""How many channels each group keeps, so that the network keeps a wanted share of its multiply-accumulates.

All channels are ranked together by their normalised score, and one threshold decides; the threshold is found by
bisection on the counted operations. Widths are rounded to multiples that the runtimes' kernels are fast at: widths that
were not multiples of 8 or 16 threw the whole gain away when measured.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def widths_at(threshold: float, scores: Mapping[str, Tensor], *, multiple: int, least: float) -> dict[str, int]:
    """Channels kept per group when those scoring below `threshold` go.

    multiple: widths are rounded up to it · least: the share of its channels that a group keeps in any case
    """
    widths = {}
    for root, score in scores.items():
        channels = len(score)
        kept = max(int((score >= threshold).sum()), round(least * channels), 1)
        widths[root] = min(channels, -(-kept // multiple) * multiple)
    return widths


def widths_for(
    keep_macs: float,
    scores: Mapping[str, Tensor],
    *,
    multiple: int,
    least: float,
    macs_of: Callable[[dict[str, int]], int],
) -> dict[str, int]:
    """The largest widths that keep at most the share `keep_macs` of the operations, or the smallest allowed ones.

    macs_of: counts the multiply-accumulates of the network with given widths
    """
    full = macs_of({root: len(score) for root, score in scores.items()})
    ranked = torch.unique(torch.cat([score.detach().flatten().float() for score in scores.values()]))
    low, high = 0, len(ranked) - 1  # the wanted threshold lies in ranked[low..high]
    while low < high:
        middle = (low + high) // 2
        widths = widths_at(float(ranked[middle]), scores, multiple=multiple, least=least)
        if macs_of(widths) <= keep_macs * full:
            high = middle
        else:
            low = middle + 1
    return widths_at(float(ranked[low]), scores, multiple=multiple, least=least)


def cut_places(score: Tensor, width: int) -> list[int]:
    """The channels that go when the `width` best of `score` stay; of equals, the first stay."""
    order = torch.argsort(score, descending=True, stable=True)
    return sorted(int(place) for place in order[width:])
