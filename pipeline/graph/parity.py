"""From the teacher to the engine in hops: what changed between two neighbouring forms of a network."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.graph.compare import Sizes, agreement


def hops(
    answers: Sequence[tuple[str, np.ndarray]],
    *,
    sizes: Sizes = None,
    forms: Sequence[str] = (),
    scores: Sequence[float] = (),
) -> list[dict[str, Any]]:
    """One row for each pair of neighbours: from, to, and their agreement on the same inputs.

    answers: (form, its answers (N, …)) in the order of the journey; neighbours of different shapes get no row
    sizes: of the outputs, where answers name no class (compare.py)
    forms: what kind each of them is, such as "torch FP32" · scores: what each scores by the metric, 0..1
    """
    rows: list[dict[str, Any]] = []
    for place, ((before, reference), (after, candidate)) in enumerate(pairwise(answers)):
        if reference.shape != candidate.shape:
            continue
        rows.append({"from": before, "to": after, **asdict(agreement(reference, candidate, sizes=sizes))})
        if forms:
            rows[-1] |= {"from_form": forms[place], "to_form": forms[place + 1]}
        if scores:
            rows[-1] |= {"from_score": scores[place], "to_score": scores[place + 1]}
    return rows


def unequal_allowed(count: int, *, least_equal: float) -> int:
    """How many of `count` answers may differ; one always may, for a small split cannot resolve less.

    >>> unequal_allowed(3000, least_equal=0.999), unequal_allowed(100, least_equal=0.999)
    (3, 1)
    """
    return max(1, int(count * (1 - least_equal) + 1e-9))
