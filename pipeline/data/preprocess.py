"""From an image of any size to what the network was trained on: the same steps in training and on the device.

Stands alone: the standard library and numpy only. A bundle carries a copy of this file, so that the device cannot
prepare its inputs differently from the training run. Written for Python 3.8 and later for the same reason.

    image → colours → resize → centre crop → uint8 pixels (C, H, W) → (pixels / 255 − mean) / std

Every integer step follows Pillow, which most published networks were trained with:

- colours: grey is Rec. 601 luma, (19595·R + 38470·G + 7471·B + 2¹⁵) >> 16; alpha is dropped, not composited;
  of 16-bit samples the upper byte is kept;
- resize: Pillow's BILINEAR, a triangle filter that widens with the reduction (so it does not alias), first along the
  rows, then along the columns, rounded to 8 bits after each, with weights of 22 bits (Pillow 13 takes the columns first
  where that is less work, which moves a pixel by one level at most);
- the long side after resizing the short one, and the place of the crop, follow torchvision's Resize and CenterCrop.

Letters: N images, C channels, H height, W width, S samples along an axis before and O after resizing, T filter taps,
M everything along the other axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SCHEMA = 1
WEIGHT_BITS = 22  # Pillow's: 32 bits, less 8 for the sample and 2 of headroom


@dataclass(frozen=True)
class Preprocess:
    """What one network expects of its images.

    `resize_short` brings the short side to that length and then cuts height × width from the centre; None resizes
    straight to height × width. An image that already has the wanted size keeps its pixels. `mean` and `std` have one
    entry per channel, in units of pixels scaled to 0..1.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_short: int | None = None

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"preprocess: {self.channels} channels; images have 1 (grey) or 3 (RGB).")
        if self.height < 1 or self.width < 1:
            raise ValueError(f"preprocess: height {self.height} and width {self.width} must be at least 1.")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(
                f"preprocess: {len(self.mean)} means and {len(self.std)} standard deviations for {self.channels} "
                "channels; give one of each per channel."
            )
        if not all(math.isfinite(mean) for mean in self.mean):
            raise ValueError(f"preprocess: mean {self.mean} is not finite.")
        if not all(math.isfinite(std) and std > 0 for std in self.std):
            raise ValueError(f"preprocess: std {self.std} must be finite and above 0.")
        if self.resize_short is not None and self.resize_short < max(self.height, self.width):
            raise ValueError(
                f"preprocess: resize_short {self.resize_short} is smaller than the crop {self.height}×{self.width}; "
                "raise it or leave it out."
            )

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
            "resize_short": self.resize_short,
            "mean": list(self.mean),
            "std": list(self.std),
        }


def preprocess_from_json(values: dict[str, Any]) -> Preprocess:
    """The inverse of `Preprocess.as_json`."""
    if not isinstance(values, dict):
        raise ValueError(f"preprocess: expected a JSON object, found {type(values).__name__}.")
    if values.get("schema") != SCHEMA:
        raise ValueError(f"preprocess: schema {values.get('schema')!r}; this version reads schema {SCHEMA}.")
    try:
        short = values["resize_short"]
        return Preprocess(
            channels=int(values["channels"]),
            height=int(values["height"]),
            width=int(values["width"]),
            mean=tuple(float(mean) for mean in values["mean"]),
            std=tuple(float(std) for std in values["std"]),
            resize_short=None if short is None else int(short),
        )
    except KeyError as missing:
        raise ValueError(f"preprocess: the JSON object has no {missing}.") from missing


def pixels_for(preprocess: Preprocess, image: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.uint8]:
    """(H, W) or (H, W, 1|2|3|4) of any size, 8 or 16 bits → (C, height, width), 8 bits."""
    coloured = with_channels(image, channels=preprocess.channels)  # (H, W, C)
    high, wide = coloured.shape[:2]
    if preprocess.resize_short is None:
        new_high, new_wide = preprocess.height, preprocess.width
    else:
        short = min(high, wide)
        new_high = preprocess.resize_short * high // short
        new_wide = preprocess.resize_short * wide // short
    # round() rounds halves to even, as torchvision's CenterCrop does.
    top, left = round((new_high - preprocess.height) / 2), round((new_wide - preprocess.width) / 2)
    # Only what the crop keeps is computed: a panorama of 10 000 × 50 costs no more than a square.
    columns_first = np.ascontiguousarray(coloured.transpose(1, 0, 2))  # (W, H, C)
    narrowed = resized(columns_first, size=new_wide, first=left, count=preprocess.width)  # (width, H, C)
    rows_first = np.ascontiguousarray(narrowed.transpose(1, 0, 2))  # (H, width, C)
    fitted = resized(rows_first, size=new_high, first=top, count=preprocess.height)  # (height, width, C)
    return np.ascontiguousarray(fitted.transpose(2, 0, 1))  # (C, height, width)


def network_input(preprocess: Preprocess, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, C, H, W) bytes → (pixels / 255 − mean) / std, in float32."""
    if pixels.ndim != 4 or pixels.shape[1] != preprocess.channels:
        raise ValueError(f"preprocess: pixels of shape {pixels.shape}; expected (N, {preprocess.channels}, H, W).")
    mean = np.array(preprocess.mean, np.float32).reshape(-1, 1, 1)  # (C, 1, 1)
    std = np.array(preprocess.std, np.float32).reshape(-1, 1, 1)
    scaled = pixels.astype(np.float32)
    scaled /= np.float32(255)
    scaled -= mean
    scaled /= std
    return scaled


def with_channels(image: npt.NDArray[np.unsignedinteger[Any]], *, channels: int) -> npt.NDArray[np.uint8]:
    """Grey, RGB, either with alpha, 8 or 16 bits → (H, W, channels), 8 bits."""
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    if image.ndim != 3 or image.shape[2] not in (1, 2, 3, 4) or 0 in image.shape:
        raise ValueError(f"preprocess: an image of shape {image.shape}; expected (H, W) or (H, W, 1..4), not empty.")
    if image.dtype == np.uint16:
        samples = (image >> 8).astype(np.uint8)
    elif image.dtype == np.uint8:
        samples = image.astype(np.uint8, copy=False)
    else:
        raise ValueError(f"preprocess: an image of {image.dtype}; expected uint8 or uint16.")
    colours = samples[:, :, : 1 if samples.shape[2] < 3 else 3]  # what is left out is alpha
    if colours.shape[2] == channels:
        return colours
    if channels == 3:
        return np.repeat(colours, 3, axis=2)
    wide = colours.astype(np.uint32)
    luma = (19595 * wide[:, :, 0] + 38470 * wide[:, :, 1] + 7471 * wide[:, :, 2] + 32768) >> 16
    return luma.astype(np.uint8)[:, :, np.newaxis]


def resized(samples: npt.NDArray[np.uint8], *, size: int, first: int, count: int) -> npt.NDArray[np.uint8]:
    """Resize axis 0 to `size`, and compute only `count` of the new samples, from `first` on."""
    if len(samples) == size:
        return samples[first : first + count]
    index, weight = triangle_taps(len(samples), size, first=first, count=count)  # (T, O) each
    flat = samples.reshape(len(samples), -1)  # (S, M)
    total = np.full((count, flat.shape[1]), 1 << (WEIGHT_BITS - 1), np.int32)  # the half that makes >> round
    for source, factor in zip(index, weight):  # noqa: B905 — strict= needs Python 3.10
        total += np.multiply(flat[source], factor[:, np.newaxis], dtype=np.int32)  # (O, M)
    total >>= WEIGHT_BITS  # below 2³¹ and within 0..255: the weights are positive and add up to 2²²
    return total.astype(np.uint8).reshape((count, *samples.shape[1:]))


def triangle_taps(
    before: int, after: int, *, first: int, count: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Which samples make each new one, and with what weights in units of 2⁻²²: (T, O) and (T, O)."""
    scale = before / after
    support = max(scale, 1.0)  # half the triangle's base: it never becomes narrower than one sample to each side
    centre = (np.arange(first, first + count) + 0.5) * scale  # (O,)
    low = np.maximum(np.floor(centre - support + 0.5), 0)
    high = np.minimum(np.floor(centre + support + 0.5), before)  # exclusive
    index = low + np.arange(int((high - low).max()))[:, np.newaxis]  # (T, O)
    weight = np.maximum(1 - np.abs((index - centre + 0.5) * (1 / support)), 0) * (index < high)
    weight *= 1 / weight.sum(axis=0)
    fixed = np.floor(weight * (1 << WEIGHT_BITS) + 0.5).astype(np.int32)
    return np.minimum(index, before - 1).astype(np.intp), fixed
