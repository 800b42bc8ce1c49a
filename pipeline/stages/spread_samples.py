"""Inputs spread evenly over the validation split: what ranges are read from and layers are examined on."""

import numpy as np

from calibration.samples import Samples
from pipeline.data.dataset import inputs_for_network
from pipeline.stage import Run


def samples_from(run: Run, count: int) -> Samples:
    """Up to `count` inputs spread over the validation split."""
    split = run.dataset.validation
    places = spread(len(split.labels), count)
    return Samples(
        inputs_for_network(run.dataset, split.inputs[places]),
        origin=f"{run.dataset.name}, split '{split.name}'",
        indices=tuple(int(index) for index in split.indices[places]),
    )


def spread(count: int, wanted: int) -> np.ndarray:
    """Up to `wanted` places spread evenly over 0..count−1."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))
