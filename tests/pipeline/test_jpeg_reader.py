"""The stand-alone JPEG reader, against Pillow and against the formula of the standard."""

from __future__ import annotations

import math
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.images import ImageUnreadable, image_from_bytes
from pipeline.data.jpeg_pixels import ZIGZAG, samples_from_coefficients

MakePicture = Callable[..., NDArray[np.uint8]]
ReadPicture = Callable[..., NDArray[np.uint8]]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0", "grey"])
@pytest.mark.parametrize("quality", [10, 75, 98])
def test_a_jpeg_is_within_1_level_of_pillow_at_every_pixel(
    progressive: bool,
    sampling: str,
    quality: int,
    picture: MakePicture,
    file_of: Callable[..., bytes],
    as_pillow_reads: ReadPicture,
) -> None:
    for high, wide in ((1, 1), (3, 2), (5, 4), (16, 16), (33, 17), (75, 100)):
        image = Image.fromarray(picture(high, wide, seed=high))
        options = {} if sampling == "grey" else {"subsampling": sampling}
        image = image.convert("L") if sampling == "grey" else image
        data = file_of(image, "JPEG", quality=quality, progressive=progressive, **options)
        got = image_from_bytes(data, name="made")
        # Measured: no pixel differs from libjpeg-turbo 3. 1 level is left to a libjpeg whose DCT rounds elsewhere.
        np.testing.assert_allclose(got.astype(int), as_pillow_reads(data, like=got).astype(int), rtol=0, atol=1)


@pytest.mark.parametrize("factors", [0x12, 0x41, 0x14])
def test_chroma_halved_downwards_or_quartered_is_within_1_level_of_pillow(
    factors: int, picture: MakePicture, file_of: Callable[..., bytes], as_pillow_reads: ReadPicture
) -> None:
    # 64 × 64 pixels take as many units of the same number of blocks whichever way the chroma is sampled: only the
    # header changes, and with it the picture, which both readers scramble alike.
    made_as = 1 if factors == 0x12 else 2
    data = file_of(Image.fromarray(picture(64, 64)), "JPEG", subsampling=made_as)
    place = data.index(b"\xff\xc0") + 11
    assert data[place] == (0x21 if made_as == 1 else 0x22)
    patched = data[:place] + bytes([factors]) + data[place + 1 :]
    got = image_from_bytes(patched, name="patched")
    np.testing.assert_allclose(got.astype(int), as_pillow_reads(patched, like=got).astype(int), rtol=0, atol=1)


@pytest.mark.parametrize("progressive", [False, True])
def test_restart_markers_after_every_3_blocks_change_0_pixels(
    progressive: bool, picture: MakePicture, file_of: Callable[..., bytes]
) -> None:
    image = Image.fromarray(picture(50, 70))
    plain = image_from_bytes(file_of(image, "JPEG", progressive=progressive), name="plain")
    restarted = file_of(image, "JPEG", progressive=progressive, restart_marker_blocks=3)
    assert restarted.count(b"\xff\xd3") >= 1
    np.testing.assert_array_equal(image_from_bytes(restarted, name="restarted"), plain)


def test_a_jpeg_saved_as_rgb_is_not_taken_for_luma_and_chroma(
    picture: MakePicture, file_of: Callable[..., bytes], as_pillow_reads: ReadPicture
) -> None:
    data = file_of(Image.fromarray(picture(40, 40)), "JPEG", keep_rgb=True)
    got = image_from_bytes(data, name="rgb")
    np.testing.assert_allclose(got.astype(int), as_pillow_reads(data, like=got).astype(int), rtol=0, atol=1)


def test_an_orientation_tag_of_6_does_not_turn_the_image(picture: MakePicture, file_of: Callable[..., bytes]) -> None:
    image = Image.fromarray(picture(20, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert image_from_bytes(file_of(image, "JPEG", exif=exif), name="turned").shape == (20, 30, 3)


@pytest.mark.parametrize("archive", ["imagenet-compatible-500/images.tar", "coco128/coco128_train.tar"])
def test_6_real_photographs_are_within_1_level_of_pillow(
    data_folder: Path, archive: str, as_pillow_reads: ReadPicture
) -> None:
    if not (data_folder / archive).is_file():
        pytest.skip(f"needs {data_folder / archive}")
    with tarfile.open(data_folder / archive) as tar:
        names = [name for name in tar.getnames() if name.endswith(".jpg")][:6]
        assert len(names) == 6
        for name in names:
            opened = tar.extractfile(name)
            assert opened is not None
            data = opened.read()
            got = image_from_bytes(data, name=name)
            np.testing.assert_allclose(got.astype(int), as_pillow_reads(data, like=got).astype(int), rtol=0, atol=1)


def test_the_inverse_transform_is_within_1_level_of_the_double_sum_of_the_standard() -> None:
    rng = np.random.default_rng(0)
    stored = rng.integers(-40, 41, (1, 3, 64)).astype(np.int16)
    steps = rng.integers(1, 12, 64).astype(np.float64)
    got = samples_from_coefficients(stored, steps=steps)
    angle = [
        [math.cos((2 * x + 1) * u * math.pi / 16) / (math.sqrt(8) if u == 0 else 2) for x in range(8)] for u in range(8)
    ]
    for block in range(3):
        natural = np.zeros(64)
        natural[ZIGZAG] = stored[0, block] * steps
        for y in range(8):
            for x in range(8):
                level = 128 + sum(natural[8 * v + u] * angle[v][y] * angle[u][x] for v in range(8) for u in range(8))
                # 1 level: two roundings of constants of 13 bits.
                assert abs(int(got[y, 8 * block + x]) - min(max(level, 0), 255)) <= 1


def test_by_hand_the_first_10_places_of_the_zigzag_and_the_last() -> None:
    assert ZIGZAG[:10].tolist() == [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]
    assert ZIGZAG[-1] == 63
    assert sorted(ZIGZAG.tolist()) == list(range(64))


def test_cmyk_arithmetic_coding_and_12_bits_are_refused_by_name(
    picture: MakePicture, file_of: Callable[..., bytes]
) -> None:
    image = Image.fromarray(picture(16, 16))
    with pytest.raises(ImageUnreadable, match="CMYK"):
        image_from_bytes(file_of(image.convert("CMYK"), "JPEG"), name="four.jpg")
    data = file_of(image, "JPEG")
    with pytest.raises(ImageUnreadable, match="arithmetic-coded"):
        image_from_bytes(data.replace(b"\xff\xc0", b"\xff\xc9"), name="coded.jpg")
    place = data.index(b"\xff\xc0") + 4
    with pytest.raises(ImageUnreadable, match="12 bits"):
        image_from_bytes(data[:place] + bytes([12]) + data[place + 1 :], name="deep.jpg")
