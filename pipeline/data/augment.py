"""Shifted, mirrored and mixed views of a picture, as many as asked for and always the same.

Shift by padding with zeros and cropping, and mirror left to right: He, Zhang, Ren & Sun 2015, "Deep Residual Learning
for Image Recognition", arXiv:1512.03385, section 4.2 (there with fresh random numbers at every epoch). Mix each picture
with another of the split: Zhang et al. 2018, "mixup", arXiv:1710.09412; for distillation, where the teacher is asked
about the mixture, Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and consistent",
arXiv:2106.05237, section 3.

Here the views are finite: the pixels depend on the seed, the number of the view and the place of the input in its
split, and on nothing else. So the teacher's answers on a view can be computed once and kept, and a student's epoch can
be repeated to the byte. What is padded in is the number 0: black for uint8 pixels, the mean for normalised inputs.

Letters: B inputs of a batch, C channels, H height, W width.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augment:
    """`views` views; each shifts by up to `shift` pixels each way and, with `flip`, mirrors every second input.

    mix: the largest share of another picture in a view, 0 (none) … 0.5; labels stay those of the larger part, so a
    stage that mixes learns from the teacher's answers, not from the labels
    """

    shift: int = 4
    flip: bool = True
    views: int = 8
    mix: float = 0.0

    def __post_init__(self) -> None:
        if self.shift < 0 or self.views < 1:
            raise ValueError(f"an augmentation needs shift ≥ 0 and views ≥ 1, not {self.shift} and {self.views}")
        if not 0 <= self.mix <= 0.5:
            raise ValueError(f"the share of the other picture lies in 0 … 0.5, not at {self.mix}")

    def partners(self, *, view: int, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """For each of `count` inputs the place of the picture it is mixed with, and that one's share: (count,) each."""
        streams = [np.random.default_rng([seed, view, which]) for which in (3, 4)]
        return streams[0].permutation(count), streams[1].uniform(0, self.mix, size=count).astype(np.float32)

    def __call__(self, inputs: Tensor, indices: Tensor, *, view: int, seed: int, count: int) -> Tensor:
        """View number `view` of `inputs` (B, C, H, W), which stand at places `indices` (B,) of a split of `count`."""
        if not 0 <= view < self.views:
            raise ValueError(f"view {view} does not exist; there are views 0 … {self.views - 1}")
        if self.shift == 0 and not self.flip:
            return inputs
        B, C, H, W = inputs.shape
        down, right, mirror = drawn(self.shift, self.flip, seed, view, count)
        here = indices.cpu().numpy()
        rows = np.arange(H) + down[here, None]  # (B, H)
        columns = np.arange(W) + right[here, None]  # (B, W)
        columns = np.where(mirror[here, None], columns[:, ::-1], columns)
        padded_width = W + 2 * self.shift
        places = torch.from_numpy(rows[:, :, None] * padded_width + columns[:, None, :]).to(inputs.device)  # (B, H, W)
        padded = F.pad(inputs, (self.shift,) * 4).reshape(B, C, -1)
        return padded.gather(2, places.view(B, 1, -1).expand(B, C, -1)).view(B, C, H, W)


@lru_cache(maxsize=4)  # a training loop asks again for every batch of a view
def drawn(shift: int, flip: bool, seed: int, view: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows down, columns right (both 0 … 2·shift) and mirrored or not, for each of `count` inputs: (count,) each.

    One stream of random numbers for each of the three, so that a longer split begins as a shorter one does.
    """
    streams = [np.random.default_rng([seed, view, which]) for which in range(3)]
    down = streams[0].integers(0, 2 * shift + 1, size=count)
    right = streams[1].integers(0, 2 * shift + 1, size=count)
    mirror = streams[2].integers(0, 2, size=count).astype(bool) & flip
    for array in (down, right, mirror):
        array.flags.writeable = False  # the cache hands out the same arrays again
    return down, right, mirror
