"""From the teacher to the engine in hops: what changed between two neighbouring forms of a network."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.graph.compare import Sizes, agreement


def hops(answers: Sequence[tuple[str, np.ndarray]], *, sizes: Sizes = None) -> list[dict[str, Any]]:
    """One row for each pair of neighbours: from, to, and their agreement on the same inputs.

    answers: (form, its answers (N, …)) in the order of the journey; neighbours of different shapes get no row
    sizes: of the outputs, where answers name no class (compare.py)
    """
    rows = []
    for (before, reference), (after, candidate) in pairwise(answers):
        if reference.shape == candidate.shape:
            rows.append({"from": before, "to": after, **asdict(agreement(reference, candidate, sizes=sizes))})
    return rows


def unequal_allowed(count: int, *, least_equal: float) -> int:
    """How many of `count` answers may differ; one always may, for a small split cannot resolve less.

    >>> unequal_allowed(3000, least_equal=0.999), unequal_allowed(100, least_equal=0.999)
    (3, 1)
    """
    return max(1, int(count * (1 - least_equal) + 1e-9))
