"""Read an image file: PNG, JPEG, BMP, PNM or NPY, told apart by content and not by name.

Stands alone: the standard library, numpy and the readers beside it. A bundle carries copies, so that the pixels on
the device are the pixels of the training run even where no image library is installed. Alpha is dropped, 16-bit samples
keep their upper byte, and orientation tags and colour profiles are left alone: all as Pillow's convert('RGB') does.

Letters: H height, W width.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from pathlib import Path
from tokenize import TokenError

import numpy as np
import numpy.typing as npt

if __package__:
    from pipeline.data.jpeg_reader import JPEG_SIGNATURE, decode_jpeg
    from pipeline.data.png_reader import PNG_SIGNATURE, decode_png
else:  # beside this file in a bundle
    from jpeg_reader import JPEG_SIGNATURE, decode_jpeg  # type: ignore[import-not-found, no-redef]
    from png_reader import PNG_SIGNATURE, decode_png  # type: ignore[import-not-found, no-redef]

FORMATS = "PNG, JPEG, BMP, PNM (P2, P3, P5, P6) and NPY"
MOST_PIXELS = 1 << 27  # 134 megapixels; a damaged header may ask for four thousand
# What parsing damaged bytes runs into, beside the ValueErrors that say what is wrong.
DAMAGE = (IndexError, KeyError, OverflowError, EOFError, MemoryError, SyntaxError, struct.error, TokenError, zlib.error)
PNM_HEADER = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d{1,9})")


class ImageUnreadable(ValueError):
    """The file is missing, damaged, or of a kind that is not read. The message names the file and says which."""


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """→ (H, W) grey or (H, W, 3) RGB."""
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ImageUnreadable(f"Image {file} cannot be read: {error.strerror or error}.") from error
    return image_from_bytes(data, name=str(file))


def image_from_bytes(data: bytes, *, name: str) -> npt.NDArray[np.uint8]:
    """The same for a file held in memory; `name` is for the message."""
    kind = kind_of(data)
    try:
        if kind == "PNG":
            return decode_png(data, most_pixels=MOST_PIXELS)
        if kind == "JPEG":
            return decode_jpeg(data, most_pixels=MOST_PIXELS)
        if kind == "BMP":
            return decode_bmp(data)
        if kind == "PNM":
            return decode_pnm(data)
        if kind == "NPY":
            return decode_npy(data)
    except ValueError as fault:
        raise ImageUnreadable(f"Image {name} is not a readable {kind} file: {fault}.") from fault
    except DAMAGE as fault:
        raise ImageUnreadable(f"Image {name} is not a readable {kind} file: it is damaged or cut short.") from fault
    what = "is empty" if not data else "is of a kind that is not read"
    raise ImageUnreadable(f"Image {name} {what}; {FORMATS} are.")


def kind_of(data: bytes) -> str | None:
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data.startswith(JPEG_SIGNATURE):
        return "JPEG"
    if data.startswith(b"\x93NUMPY"):
        return "NPY"
    if re.match(rb"P[2356]\s", data):
        return "PNM"
    return "BMP" if data.startswith(b"BM") else None


def decode_bmp(data: bytes) -> npt.NDArray[np.uint8]:
    """Uncompressed, 8 bits with a palette, 24 or 32 bits; bottom-up or top-down."""
    first, header_bytes, width, height, _, depth, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if header_bytes < 40:
        raise ValueError(f"its header of {header_bytes} bytes is not the one in use since Windows 3")
    masks = struct.unpack_from("<III", data, 54) if compression == 3 else None
    usual = compression == 0 or (depth == 32 and masks == (0xFF0000, 0xFF00, 0xFF))
    if depth not in (8, 24, 32) or not usual:
        raise ValueError(f"{depth} bits per pixel with compression {compression}; 8, 24 and 32 uncompressed are read")
    stride = (width * depth + 31) // 32 * 4
    if width < 1 or height == 0 or len(data) < first + stride * abs(height):
        raise ValueError(f"it is cut short, or its size of {width}×{height} is wrong")
    rows = np.frombuffer(data, np.uint8, count=stride * abs(height), offset=first).reshape(abs(height), stride)
    if height > 0:
        rows = rows[::-1]
    if depth > 8:
        pixels = rows[:, : width * depth // 8].reshape(abs(height), width, depth // 8)
        return np.ascontiguousarray(pixels[:, :, 2::-1])  # stored as blue, green, red
    used = struct.unpack_from("<I", data, 46)[0] or 256
    palette = np.frombuffer(data, np.uint8, count=4 * used, offset=14 + header_bytes).reshape(-1, 4)[:, 2::-1]
    coloured = palette[rows[:, :width]]
    grey = bool((palette == palette[:, :1]).all())
    return np.ascontiguousarray(coloured[:, :, 0] if grey else coloured)


def decode_pnm(data: bytes) -> npt.NDArray[np.uint8]:
    """Netpbm's PGM and PPM, in letters (P2, P3) or bytes (P5, P6); a maximum other than 255 is scaled to it."""
    header = PNM_HEADER.match(data)
    if not header:
        raise ValueError("its header is damaged")
    form, width, height, largest = (int(group) for group in header.groups())
    channels = 3 if form in (3, 6) else 1
    count = width * height * channels
    if not 0 < largest < 1 << 16 or not 0 < width * height <= MOST_PIXELS:
        raise ValueError(f"its header asks for {width}×{height} pixels up to {largest}")
    if form < 4:
        words = re.sub(rb"#[^\n]*", b"", data[header.end() :]).split(maxsplit=count)[:count]
        samples = np.array([int(word) for word in words], np.int64)
    else:
        kind = np.dtype(">u2" if largest > 255 else "u1")
        body = data[header.end() + 1 :][: count * kind.itemsize]
        samples = np.frombuffer(body[: len(body) // kind.itemsize * kind.itemsize], kind).astype(np.int64)
    if len(samples) < count:
        raise ValueError(f"it is cut short: {len(samples)} of {count} samples")
    if samples.min() < 0 or samples.max() > largest:
        raise ValueError(f"a sample is above its own maximum of {largest}")
    scaled = ((samples * 255 + largest // 2) // largest).astype(np.uint8)
    return scaled.reshape((height, width) if channels == 1 else (height, width, 3))


def decode_npy(data: bytes) -> npt.NDArray[np.uint8]:
    """A uint8 array (H, W) or (H, W, 1|3|4)."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"it holds {array.dtype} of shape {array.shape}; an image is uint8, (H, W) or (H, W, 3)")
    if array.ndim == 2:
        return np.ascontiguousarray(array)
    if array.shape[2] not in (1, 3, 4):
        raise ValueError(f"its shape is {array.shape}; an image has 1, 3 or 4 channels, and they come last")
    return np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array[:, :, :3])
