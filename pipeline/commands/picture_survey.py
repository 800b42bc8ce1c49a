"""A first look at a folder of pictures: its classes, how many there are, how large, and which cannot be opened.

Only the beginning of a file is read, of 2 000 files spread over the folder at the most. What the run itself will skip
for damage further in, it reports when it decodes the pictures.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from pipeline.data.class_folders import listed
from pipeline.data.decoded_pictures import DAMAGED

LOOKED_AT = 2000
SIDES = (32, 48, 64, 96, 128, 160, 192, 224)  # pictures are made no larger than their median short side, nor than 224


@dataclass(frozen=True)
class Survey:
    """What was seen.

    counts: pictures by class · given_parts: whether train/ and test/ stand above the classes · skipped: a line each
    sizes: (height, width) of the pictures looked at
    """

    counts: dict[str, int]
    given_parts: bool
    skipped: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]

    @property
    def pictures(self) -> int:
        """How many files stand in the folders of the classes, without those that were seen to be damaged."""
        return sum(self.counts.values())

    @property
    def to_learn_from(self) -> int:
        """About how many the training split will hold."""
        return max(1, round(0.7 * self.pictures))

    @property
    def size(self) -> tuple[int, int]:
        """A sensible (height, width): the pictures' own when they are all alike, else a square they can fill."""
        if len(set(self.sizes)) == 1 and max(self.sizes[0]) <= SIDES[-1]:
            return self.sizes[0]
        short = median(min(size) for size in self.sizes) if self.sizes else SIDES[-1]
        side = max((side for side in SIDES if side <= short), default=SIDES[0])
        return (side, side)

    def resize_short(self, size: tuple[int, int]) -> int | None:
        """The short side before the crop: 256 for 224, as networks for ImageNet are tested; None: nothing to resize."""
        return None if set(self.sizes) == {size} else round(max(size) * 256 / 224)


def survey(folder: Path) -> Survey:
    """Look at the pictures below `folder`, as `ImageFolder` will.

    Raises:
        DataRefused: there are not two folders with files in them.
    """
    classes, pictures, outside = listed(folder)
    counts = {name: sum(picture.label == label for picture in pictures) for label, name in enumerate(classes)}
    places = np.unique(np.linspace(0, len(pictures) - 1, min(len(pictures), LOOKED_AT)).round().astype(int))
    sizes: list[tuple[int, int]] = []
    skipped = list(outside)
    for place in places:
        path = pictures[place].path
        try:
            with Image.open(folder / path) as image:
                sizes.append((image.height, image.width))
        except DAMAGED as error:
            skipped.append(f"{path}: cannot be read as a picture ({type(error).__name__})")
            counts[classes[pictures[place].label]] -= 1
    return Survey(counts, pictures[0].part is not None, tuple(skipped), tuple(sizes))
