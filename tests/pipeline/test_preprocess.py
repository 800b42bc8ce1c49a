"""The steps from an image to the network's input, against Pillow, against a slow obvious version, and by hand."""

from __future__ import annotations

import io
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.images import image_from_bytes
from pipeline.data.preprocess import Preprocess, network_input, pixels_for, preprocess_from_json


def steps(height: int, width: int, *, channels: int = 3, resize_short: int | None = None) -> Preprocess:
    return Preprocess(
        channels=channels,
        height=height,
        width=width,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        resize_short=resize_short,
    )


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def obvious_row(row: NDArray[np.uint8], size: int) -> list[int]:
    """One row through the triangle filter, sample by sample, rounded to 8 bits."""
    scale = len(row) / size
    reach = max(scale, 1.0)
    result = []
    for place in range(size):
        centre = (place + 0.5) * scale
        weights = [max(0.0, 1 - abs(sample + 0.5 - centre) / reach) for sample in range(len(row))]
        mean = sum(weight * int(value) for weight, value in zip(weights, row, strict=True)) / sum(weights)
        result.append(math.floor(mean + 0.5))
    return result


@pytest.mark.parametrize(("before", "after"), [(7, 3), (3, 7), (100, 9), (9, 100), (50, 49), (1, 5), (5, 1), (13, 13)])
def test_a_row_is_resized_within_1_level_of_the_sum_written_out(before: int, after: int) -> None:
    row = noise(before, seed=before * 1000 + after)
    got = pixels_for(steps(1, after, channels=1), row[np.newaxis])[0, 0]
    # 1 level: weights of 22 bits may tip a sum that lies on a half to the other side.
    np.testing.assert_allclose(got.astype(int), obvious_row(row, after), rtol=0, atol=1)


@pytest.mark.parametrize("seed", range(40))
def test_resizing_is_within_1_level_of_pillow_at_40_random_sizes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    high, wide, new_high, new_wide = (int(number) for number in rng.integers(1, 160, 4))
    image = noise(high, wide, 3, seed=seed)
    expected = np.asarray(Image.fromarray(image).resize((new_wide, new_high), Image.Resampling.BILINEAR))
    got = pixels_for(steps(new_high, new_wide), image)
    # 1 level: Pillow before 13 agrees to the bit, 13 takes the columns first for some shapes, and each pass rounds.
    np.testing.assert_allclose(got.astype(int), expected.transpose(2, 0, 1).astype(int), rtol=0, atol=1)


def test_10_photographs_resized_to_256_and_cut_to_224_are_within_1_level_of_pillow(data_folder: Path) -> None:
    archive = data_folder / "imagenet-compatible-500" / "images.tar"
    if not archive.is_file():
        pytest.skip(f"needs {archive}")
    compared = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            opened = tar.extractfile(member)
            if opened is None or not member.name.endswith(".jpg"):
                continue
            data = opened.read()
            picture = Image.open(io.BytesIO(data)).convert("RGB").crop((0, 0, 299, 220))  # not square
            expected = np.asarray(picture.resize((347, 256), Image.Resampling.BILINEAR).crop((62, 16, 286, 240)))
            image = image_from_bytes(data, name=member.name)
            if image.ndim == 2:
                image = np.repeat(image[:, :, np.newaxis], 3, axis=2)
            got = pixels_for(steps(224, 224, resize_short=256), image[:220])
            # 1 level: as above. 347 = 256·299 // 220; 62 = round((347 − 224) / 2), the half to even.
            np.testing.assert_allclose(got.transpose(1, 2, 0).astype(int), expected.astype(int), rtol=0, atol=1)
            compared += 1
            if compared == 10:
                return
    raise AssertionError(f"only {compared} photographs in {archive}")


@pytest.mark.parametrize(("high", "wide"), [(50, 80), (80, 50), (64, 64), (200, 31)])
def test_computing_the_crop_alone_gives_the_0_different_pixels_of_cropping_the_whole(high: int, wide: int) -> None:
    image = noise(high, wide, 3, seed=high)
    short = min(high, wide)
    whole = pixels_for(steps(40 * high // short, 40 * wide // short), image)
    top, left = round((whole.shape[1] - 32) / 2), round((whole.shape[2] - 24) / 2)
    cropped = pixels_for(steps(32, 24, resize_short=40), image)
    np.testing.assert_array_equal(cropped, whole[:, top : top + 32, left : left + 24])


@pytest.mark.parametrize(("wide", "left"), [(32, 0), (33, 0), (34, 1), (35, 2), (37, 2)])
def test_by_hand_the_crop_begins_at_half_of_what_is_left_and_a_half_goes_to_the_even(wide: int, left: int) -> None:
    image = noise(32, wide, 3)
    got = pixels_for(steps(32, 32, resize_short=32), image)
    np.testing.assert_array_equal(got, image[:, left : left + 32].transpose(2, 0, 1))


@pytest.mark.parametrize("resize_short", [None, 28])
def test_an_image_of_28_by_28_keeps_its_784_pixels(resize_short: int | None) -> None:
    image = noise(28, 28)
    np.testing.assert_array_equal(pixels_for(steps(28, 28, channels=1, resize_short=resize_short), image)[0], image)


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_an_even_image_of_5_by_301_stays_even_at_any_size(value: int) -> None:
    got = pixels_for(steps(13, 17), np.full((5, 301, 3), value, np.uint8))
    assert got.shape == (3, 13, 17)
    assert (got == value).all()


def test_grey_of_65536_colours_is_that_of_pillow_to_the_bit() -> None:
    image = noise(256, 256, 3)
    expected = np.asarray(Image.fromarray(image).convert("L"))
    np.testing.assert_array_equal(pixels_for(steps(256, 256, channels=1), image)[0], expected)


def test_grey_becomes_3_equal_channels_and_3_equal_channels_become_that_grey() -> None:
    grey = noise(16, 16)
    colours = pixels_for(steps(16, 16), grey)
    np.testing.assert_array_equal(colours, np.stack([grey] * 3))
    np.testing.assert_array_equal(pixels_for(steps(16, 16, channels=1), colours.transpose(1, 2, 0))[0], grey)


def test_the_2nd_or_4th_channel_is_alpha_and_changes_nothing() -> None:
    for colours in (1, 3):
        image = noise(9, 11, colours + 1)
        without = np.ascontiguousarray(image[:, :, :colours])
        np.testing.assert_array_equal(pixels_for(steps(6, 6), image), pixels_for(steps(6, 6), without))


def test_of_16_bits_the_upper_8_are_kept() -> None:
    image = np.array([[0x0000, 0x00FF], [0x0100, 0xFFFF]], np.uint16)
    assert pixels_for(steps(2, 2, channels=1), image).tolist() == [[[0, 0], [1, 255]]]


def test_by_hand_255_with_mean_a_half_and_std_a_quarter_is_2() -> None:
    preprocess = Preprocess(channels=1, height=1, width=3, mean=(0.5,), std=(0.25,))
    got = network_input(preprocess, np.array([[[[0, 51, 255]]]], np.uint8))
    assert got.dtype == np.float32
    # 51 / 255 = 0.2. Four float32 roundings of numbers up to 2: 1e-6.
    np.testing.assert_allclose(got, [[[[-2.0, -1.2, 2.0]]]], rtol=0, atol=1e-6)


def test_each_of_3_channels_has_its_own_mean_and_std() -> None:
    preprocess = Preprocess(channels=3, height=2, width=2, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    pixels = noise(5, 3, 2, 2)
    got = network_input(preprocess, pixels)
    for channel in range(3):
        expected = (pixels[:, channel] / 255 - preprocess.mean[channel]) / preprocess.std[channel]
        # Values up to 2.7; float32 resolves 2.4e-7 there, and three operations round.
        np.testing.assert_allclose(got[:, channel], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("resize_short", [None, 256])
def test_the_6_settings_survive_json(resize_short: int | None) -> None:
    preprocess = Preprocess(
        channels=3, height=224, width=192, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
        resize_short=resize_short,
    )  # fmt: skip
    assert preprocess_from_json(json.loads(json.dumps(preprocess.as_json()))) == preprocess


def test_schema_2_and_a_missing_key_are_refused_by_name() -> None:
    values = steps(8, 8).as_json()
    with pytest.raises(ValueError, match="schema 2"):
        preprocess_from_json({**values, "schema": 2})
    del values["width"]
    with pytest.raises(ValueError, match="'width'"):
        preprocess_from_json(values)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"channels": 4}, "4 channels"),
        ({"height": 0}, "height 0"),
        ({"mean": (0.5,)}, "1 means"),
        ({"std": (1.0, 0.0, 1.0)}, "above 0"),
        ({"mean": (0.5, math.nan, 0.5)}, "not finite"),
        ({"resize_short": 31}, "smaller than the crop"),
    ],
)
def test_6_settings_that_make_no_sense_are_refused(changed: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {"channels": 3, "height": 32, "width": 32, "mean": (0.5,) * 3, "std": (1.0,) * 3}
    with pytest.raises(ValueError, match=said):
        Preprocess(**{**good, **changed})


def test_float_pixels_and_an_empty_image_are_refused() -> None:
    with pytest.raises(ValueError, match="float32"):
        pixels_for(steps(4, 4), np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="not empty"):
        pixels_for(steps(4, 4), np.zeros((0, 4, 3), np.uint8))
