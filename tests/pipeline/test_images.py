"""The stand-alone image readers, against Pillow, samples packed here, and by hand. JPEG: test_jpeg_reader.py."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.images import ImageUnreadable, image_from_bytes, read_image

MakePicture = Callable[..., NDArray[np.uint8]]
ReadPicture = Callable[..., NDArray[np.uint8]]
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


# What an image with alpha is brought to (a mode of Pillow, or a palette of so many colours), and its file.
LOSSLESS: dict[str, tuple[str | int, str, dict[str, Any]]] = {
    "PNG RGB": ("RGB", "PNG", {}),
    "PNG RGBA": ("RGBA", "PNG", {}),
    "PNG grey": ("L", "PNG", {}),
    "PNG grey and alpha": ("LA", "PNG", {}),
    "PNG 1 bit": ("1", "PNG", {}),
    "PNG 2-bit palette": (4, "PNG", {}),
    "PNG 4-bit palette": (13, "PNG", {}),
    "PNG 8-bit palette": (60, "PNG", {}),
    "PNG palette and transparency": (60, "PNG", {"transparency": 3}),
    "BMP 24 bits": ("RGB", "BMP", {}),
    "BMP 32 bits": ("RGBA", "BMP", {}),
    "BMP grey": ("L", "BMP", {}),
    "BMP palette": (30, "BMP", {}),
    "PPM": ("RGB", "PPM", {}),
    "PGM": ("L", "PPM", {}),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_15_kinds_of_lossless_file_are_read_as_pillow_reads_them(
    kind: str, picture: MakePicture, file_of: Callable[..., bytes], as_pillow_reads: ReadPicture
) -> None:
    brought_to, form, options = LOSSLESS[kind]
    colour = Image.fromarray(picture(37, 45, channels=4))
    image = colour.convert(brought_to) if isinstance(brought_to, str) else colour.convert("RGB").quantize(brought_to)
    data = file_of(image, form, **options)
    got = image_from_bytes(data, name=kind)
    assert got.dtype == np.uint8
    assert got.shape[:2] == (37, 45)
    np.testing.assert_array_equal(got, as_pillow_reads(data, like=got))


def filtered_row(kind: int, row: bytes, above: bytes, step: int) -> bytes:
    """A PNG row through prediction `kind`, byte by byte, as the specification words it."""
    result = bytearray()
    for i, value in enumerate(row):
        a, b, c = (row[i - step] if i >= step else 0), above[i], (above[i - step] if i >= step else 0)
        p = a + b - c
        paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        result.append((value - (0, a, b, (a + b) // 2, paeth)[kind]) & 255)
    return bytes(result)


def png_of(samples: NDArray[np.uint16], *, kind: int, depth: int, interlace: bool, palette: bytes = b"") -> bytes:
    """A PNG of the given samples (H, W, K) whose rows take filters 0 to 4 in turn."""
    high, wide, channels = samples.shape
    stream = b""
    for x, y, dx, dy in ADAM7 if interlace else ((0, 0, 1, 1),):
        part = samples[y::dy, x::dx]
        if not part.size:
            continue
        above = None
        for number, line in enumerate(part):
            bits = "".join(f"{int(value):0{depth}b}" for value in line.ravel())
            row = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
            step = max(1, channels * depth // 8)
            stream += bytes([number % 5]) + filtered_row(number % 5, row, above or bytes(len(row)), step)
            above = row
    header = struct.pack(">IIBBBBB", wide, high, depth, kind, 0, 0, interlace)
    chunks = [
        (b"IHDR", header),
        (b"PLTE", palette),
        (b"tEXt", b"a\0b"),
        (b"IDAT", zlib.compress(stream)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
        if data or name == b"IEND"
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize(
    ("kind", "depth"),
    [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
    + [(kind, depth) for kind in (4, 6) for depth in (8, 16)],
)
def test_each_of_the_15_png_colour_types_and_depths_gives_its_samples_back(
    kind: int, depth: int, interlace: bool
) -> None:
    rng = np.random.default_rng(depth * 10 + kind)
    samples = rng.integers(0, 1 << depth, (13, 11, SAMPLES[kind])).astype(np.uint16)
    palette = rng.integers(0, 256, (1 << min(depth, 8), 3), dtype=np.uint8)
    data = png_of(samples, kind=kind, depth=depth, interlace=interlace, palette=palette.tobytes() if kind == 3 else b"")
    full = samples >> 8 if depth == 16 else samples * (255 // ((1 << depth) - 1))
    expected = {0: full[:, :, 0], 4: full[:, :, 0], 2: full[:, :, :3], 6: full[:, :, :3]}.get(kind)
    if expected is None:
        expected = palette[samples[:, :, 0]].astype(np.uint16)
    np.testing.assert_array_equal(image_from_bytes(data, name="made"), expected.astype(np.uint8))


@pytest.mark.parametrize(("high", "wide"), [(1, 1), (1, 5), (5, 1), (2, 3), (4, 4)])
def test_an_interlaced_png_smaller_than_its_7_passes_is_read(high: int, wide: int) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (high, wide, 3)).astype(np.uint16)
    data = png_of(samples, kind=2, depth=8, interlace=True)
    np.testing.assert_array_equal(image_from_bytes(data, name="small"), samples.astype(np.uint8))


def test_by_hand_4_letters_of_maximum_3_are_0_85_170_255() -> None:
    data = b"P2 # a comment\n2 # another\n2\n3\n0 1 # one more\n2 3\n"
    assert image_from_bytes(data, name="hand").tolist() == [[0, 85], [170, 255]]


def test_by_hand_one_pixel_of_16_bit_colours() -> None:
    data = b"P6\n1 1\n65535\n" + struct.pack(">HHH", 0, 257 * 100, 65535)
    assert image_from_bytes(data, name="hand").tolist() == [[[0, 100, 255]]]
    assert image_from_bytes(b"P3 1 1 255 7 8 9", name="hand").tolist() == [[[7, 8, 9]]]


def test_by_hand_a_bmp_of_negative_height_begins_at_the_top() -> None:
    rows = bytes([1, 2, 3, 0]) + bytes([4, 5, 6, 0])  # blue, green, red, and one byte to fill 4
    for height, expected in ((-2, [[[3, 2, 1]], [[6, 5, 4]]]), (2, [[[6, 5, 4]], [[3, 2, 1]]])):
        header = struct.pack("<2sIII", b"BM", 62, 0, 54) + struct.pack(
            "<IiiHHIIiiII", 40, 1, height, 1, 24, 0, 8, 0, 0, 0, 0
        )
        assert image_from_bytes(header + rows, name="hand").tolist() == expected


@pytest.mark.parametrize(("shape", "read"), [((5, 4), (5, 4)), ((5, 4, 1), (5, 4)), ((5, 4, 3), (5, 4, 3))])
def test_an_array_of_20_pixels_is_read_as_it_is(tmp_path: Path, shape: tuple[int, ...], read: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "image.npy", image)
    np.testing.assert_array_equal(read_image(tmp_path / "image.npy"), image.reshape(read))


def test_a_float_array_and_a_pickled_one_are_2_refusals(tmp_path: Path) -> None:
    np.save(tmp_path / "float.npy", np.zeros((4, 4), np.float32))
    with pytest.raises(ImageUnreadable, match="float32"):
        read_image(tmp_path / "float.npy")
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ImageUnreadable, match=r"object\.npy is not a readable NPY"):
        read_image(tmp_path / "object.npy")


def test_a_png_of_2_by_2_called_jpg_is_read_by_its_content(tmp_path: Path, picture: MakePicture) -> None:
    Image.fromarray(picture(2, 2)).save(tmp_path / "wrong.jpg", "PNG")
    np.testing.assert_array_equal(read_image(str(tmp_path / "wrong.jpg")), picture(2, 2))


def test_files_cut_at_30_places_are_refused_by_name(picture: MakePicture, file_of: Callable[..., bytes]) -> None:
    image = Image.fromarray(picture(37, 45))
    files = {
        "cut.png": file_of(image, "PNG"),
        "cut.bmp": file_of(image, "BMP"),
        "cut.ppm": file_of(image, "PPM"),
        "cut.jpg": file_of(image, "JPEG"),
        "later.jpg": file_of(image, "JPEG", progressive=True),
    }
    for name, data in files.items():
        for length in np.linspace(0, len(data) - 1, 30).astype(int):
            with pytest.raises(ImageUnreadable, match=name):
                image_from_bytes(data[:length], name=name)


def test_800_damaged_files_give_an_image_or_an_image_unreadable(
    picture: MakePicture, file_of: Callable[..., bytes]
) -> None:
    image = Image.fromarray(picture(24, 31))
    array = io.BytesIO()
    np.save(array, picture(24, 31))
    files = [
        file_of(image, "JPEG"),
        file_of(image, "JPEG", progressive=True),
        file_of(image, "PNG"),
        file_of(image, "PPM"),
    ]
    files += [
        file_of(image, "BMP"),
        file_of(image.quantize(9), "PNG"),
        file_of(image.quantize(9), "BMP"),
        array.getvalue(),
    ]
    rng = np.random.default_rng(0)
    refused = 0
    for data in files:
        for turn in range(100):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data) if turn % 2 else min(len(data), 600), rng.integers(1, 6)):
                damaged[place] = rng.integers(0, 256)
            try:
                got = image_from_bytes(bytes(damaged), name="damaged")
            except ImageUnreadable:
                refused += 1
            else:
                assert got.dtype == np.uint8
    assert refused >= 100  # or else the damage did nothing, and neither did this test


def test_headers_that_ask_for_4_billion_pixels_are_refused_before_memory_is_taken(
    picture: MakePicture, file_of: Callable[..., bytes]
) -> None:
    data = file_of(Image.fromarray(picture(16, 16)), "JPEG")
    place = data.index(b"\xff\xc0") + 5
    with pytest.raises(ImageUnreadable, match="65535×65535"):
        image_from_bytes(data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :], name="huge.jpg")
    header = struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(ImageUnreadable, match="65535×65535"):
        image_from_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4sI", 0, b"IEND", 0xAE426082), name="huge.png")


def test_1_wrong_bit_in_a_png_chunk_is_noticed(picture: MakePicture, file_of: Callable[..., bytes]) -> None:
    data = bytearray(file_of(Image.fromarray(picture(16, 16)), "PNG"))
    data[data.index(b"IDAT") + 20] ^= 1
    with pytest.raises(ImageUnreadable, match="checksum of chunk IDAT"):
        image_from_bytes(bytes(data), name="flipped.png")


def test_a_missing_file_an_empty_one_and_a_text_are_3_sentences(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    for name, said in (("none.png", "cannot be read"), ("empty.png", "is empty"), ("text.png", "not read")):
        with pytest.raises(ImageUnreadable, match=said) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
