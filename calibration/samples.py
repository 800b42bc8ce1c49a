"""The inputs that stand for what the network will meet, checked once, when they are put together.

A NaN in one sample makes the range of every layer NaN, hours later and nameless: so it is refused here, by its place.
Places in messages count from one ("image 17 of 512"); `index` is the sample's number in the data it was drawn from,
counted from zero as that data counts.

Letters: N samples.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.errors import SampleRefused

ROWS_PER_CHECK = 64  # samples looked at together: the check needs no second copy of the data


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Samples:
    """Inputs of one shape and where they come from.

    inputs: float32, or int64 for tokens (N, ...)
    origin: where they come from, as a message should say it: "digits, split 'train'"
    indices: the number of each sample in that origin; without it, its place here
    """

    inputs: NDArray[np.float32] | NDArray[np.int64] | Tensor
    origin: str
    indices: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.inputs.dtype not in (torch.float32, torch.int64, np.dtype(np.float32), np.dtype(np.int64)):
            raise SampleRefused(
                f"calibration samples are {str(self.inputs.dtype).removeprefix('torch.')} ({self.origin}), and float32 "
                f"is needed. Give them as the network receives them: scaled, normalised and converted to float32."
            )
        if self.inputs.ndim == 0 or 0 in self.inputs.shape:
            raise SampleRefused(
                f"there are no calibration samples: the array has shape {tuple(self.inputs.shape)} ({self.origin}). "
                f"Give at least one; a few hundred make good ranges."
            )
        if self.indices is not None and len(self.indices) != len(self):
            raise SampleRefused(
                f"{len(self)} calibration samples come with {len(self.indices)} indices ({self.origin}). "
                f"Give one index per sample, or none."
            )
        self._refuse_what_is_not_finite()

    def __len__(self) -> int:
        return int(self.inputs.shape[0])

    def index(self, position: int) -> int:
        """The number that the sample at this position (from 0) has in its origin."""
        return position if self.indices is None else int(self.indices[position])

    def place(self, position: int) -> str:
        """Where the sample at this position (from 0) stands, for a message."""
        noun = "image" if self.inputs.ndim == 4 else "sample"
        return f"{noun} {position + 1} of {len(self)} ({self.origin}, index {self.index(position)})"

    def batches(self, size: int = 64) -> Iterator[Tensor]:
        """All samples in order, `size` at a time; the last batch may be smaller. Each is a copy (≤ size, ...)."""
        if size < 1:
            raise ValueError(f"a batch holds at least 1 sample, not {size}")
        for start in range(0, len(self), size):
            rows = self.inputs[start : start + size]
            # A copy: a network whose first layer works in place would otherwise change the samples for the next pass.
            yield rows.detach().clone() if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))

    def _refuse_what_is_not_finite(self) -> None:
        for number, batch in enumerate(self.batches(ROWS_PER_CHECK)):
            low, high = torch.aminmax(batch)  # one pass; NaN and infinity both reach the result
            if math.isfinite(low) and math.isfinite(high):
                continue
            rows = batch.reshape(len(batch), -1)
            position = number * ROWS_PER_CHECK + int((~rows.isfinite().all(dim=1)).nonzero()[0])
            what = "NaN" if batch[position % ROWS_PER_CHECK].isnan().any() else "infinity"
            index = self.index(position)
            raise SampleRefused(
                f"calibration {self.place(position).replace(' (', f' contains {what} (', 1)}. Ranges from this sample "
                f"would be {what} for every layer. Remove index {index} from the sample list, or repair the file."
            )


def samples_from_list(
    items: Sequence[NDArray[np.float32] | Tensor], *, origin: str, indices: Sequence[int] | None = None
) -> Samples:
    """Samples from single inputs, which must all have the shape of the first.

    Raises:
        SampleRefused: one has another shape, or `Samples` refuses them.
    """
    if not len(items):
        raise SampleRefused(f"there are no calibration samples ({origin}). Give at least one.")
    for position, item in enumerate(items):
        if item.shape != items[0].shape:
            raise SampleRefused(
                f"calibration sample {position + 1} of {len(items)} has shape {tuple(item.shape)}, the first has "
                f"{tuple(items[0].shape)} ({origin}, index {position if indices is None else indices[position]}). "
                f"Resize or crop all samples to one shape."
            )
    return Samples(torch.stack([torch.as_tensor(item) for item in items]), origin=origin, indices=indices)
