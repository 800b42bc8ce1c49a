"""Read PNG: every colour type, bit depth and interlace.

W3C, "Portable Network Graphics (PNG) Specification", third edition. Stands alone (standard library and numpy),
because a bundle carries a copy. What is read is what the file stores: gamma and colour profiles are left alone, alpha
is dropped, and of 16-bit samples the upper byte is kept, all as Pillow's convert('RGB') does.

Letters: H height, W width, B bytes of a row, K samples per pixel.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
WHOLE = ((0, 0, 1, 1),)  # first column, first row, step along columns, step along rows
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def decode_png(data: bytes, *, most_pixels: int) -> npt.NDArray[np.uint8]:
    """The bytes of a PNG file → (H, W) or (H, W, 3). ValueError says what is wrong with them."""
    chunks = chunks_of(data)
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise ValueError("its header is missing or has the wrong length")
    width, height, depth, kind, packing, filtering, interlace = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    if depth not in DEPTHS.get(kind, ()) or packing or filtering or interlace > 1:
        raise ValueError(f"its header asks for colour type {kind} at {depth} bits, interlace {interlace}")
    if not 0 < width * height <= most_pixels:
        raise ValueError(f"its header asks for {width}×{height} pixels")
    samples = SAMPLES[kind]
    parts = []  # (columns, rows, bytes per row) of each pass
    for x, y, dx, dy in ADAM7 if interlace else WHOLE:
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        parts.append((columns, rows, (columns * samples * depth + 7) // 8) if columns > 0 and rows > 0 else (0, 0, 0))
    expected = sum(rows * (1 + row_bytes) for _, rows, row_bytes in parts)
    filtered = zlib.decompressobj().decompress(chunks.get(b"IDAT", b""), expected)
    if len(filtered) < expected:
        raise ValueError(f"it is cut short: {len(filtered)} of {expected} bytes of pixels")

    image = np.empty((height, width, samples), np.uint8)
    at = 0
    for (x, y, dx, dy), (columns, rows, row_bytes) in zip(ADAM7 if interlace else WHOLE, parts):  # noqa: B905 — 3.8
        if rows:
            end = at + rows * (1 + row_bytes)
            packed = unfiltered(filtered[at:end], rows=rows, step=max(1, samples * depth // 8))  # (rows, B)
            image[y::dy, x::dx] = unpacked(packed, depth=depth, count=columns * samples).reshape(rows, columns, samples)
            at = end
    return coloured(image, kind=kind, depth=depth, palette=chunks.get(b"PLTE", b""))


def chunks_of(data: bytes) -> dict[bytes, bytes]:
    """The chunks up to IEND by name; those of one name joined, as the format asks for IDAT."""
    found: dict[bytes, list[bytes]] = {}
    at = len(PNG_SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise ValueError("it is cut short: no end chunk")
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body, check = data[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        if len(check) < 4:
            raise ValueError(f"it is cut short inside chunk {name.decode('latin-1')}")
        if name[:1].isupper() and zlib.crc32(name + body) != int.from_bytes(check, "big"):  # upper case: must be read
            raise ValueError(f"the checksum of chunk {name.decode('latin-1')} is wrong")
        if name == b"IEND":
            return {chunk: b"".join(bodies) for chunk, bodies in found.items()}
        found.setdefault(name, []).append(body)
        at += 12 + length


def unfiltered(filtered: bytes, *, rows: int, step: int) -> npt.NDArray[np.uint8]:
    """Undo the per-row prediction: (rows · (1 + B) bytes) → (rows, B). `step` is the distance to the pixel before."""
    table = np.frombuffer(filtered, np.uint8).reshape(rows, -1)
    result = np.zeros((rows + 1, table.shape[1] - 1), np.uint8)  # row 0 stands for the row above the first
    for number, (kind, *_) in enumerate(table[:, :1].tolist()):
        row, above, into = table[number, 1:], result[number], result[number + 1]
        if kind == 0:
            into[:] = row
        elif kind == 1:  # the pixel before
            np.cumsum(row.reshape(-1, step), axis=0, dtype=np.uint8, out=into.reshape(-1, step))
        elif kind == 2:  # the pixel above
            np.add(row, above, out=into)
        elif kind == 3:
            into[:] = np.frombuffer(averaged(bytearray(row.tobytes()), above.tobytes(), step=step), np.uint8)
        elif kind == 4:
            into[:] = np.frombuffer(paethed(bytearray(row.tobytes()), above.tobytes(), step=step), np.uint8)
        else:
            raise ValueError(f"row {number} names filter {kind}; there are 0 to 4")
    return result[1:]


def averaged(row: bytearray, above: bytes, *, step: int) -> bytearray:
    """Each byte was stored less the mean of the one before and the one above."""
    for i in range(step):
        row[i] = (row[i] + (above[i] >> 1)) & 255
    for i in range(step, len(row)):
        row[i] = (row[i] + ((row[i - step] + above[i]) >> 1)) & 255
    return row


def paethed(row: bytearray, above: bytes, *, step: int) -> bytearray:
    """Each byte was stored less one of before, above and corner: the nearest to before + above − corner."""
    for i in range(step):
        row[i] = (row[i] + above[i]) & 255
    for i in range(step, len(row)):
        before, up, corner = row[i - step], above[i], above[i - step]
        to_before, to_up = up - corner, before - corner
        to_corner = abs(to_before + to_up)
        to_before, to_up = abs(to_before), abs(to_up)
        after_up = up if to_up <= to_corner else corner
        row[i] = (row[i] + (before if to_before <= to_up and to_before <= to_corner else after_up)) & 255
    return row


def unpacked(packed: npt.NDArray[np.uint8], *, depth: int, count: int) -> npt.NDArray[np.uint8]:
    """(H, B) bytes → (H, count) samples of one byte each, still in the range of `depth` (16 bits: the upper byte)."""
    if depth == 8:
        return packed
    if depth == 16:
        return packed[:, ::2]
    bits = np.unpackbits(packed, axis=1).reshape(len(packed), -1, depth)  # (H, samples and padding, depth)
    weights = (1 << np.arange(depth - 1, -1, -1)).astype(np.uint8)
    samples: npt.NDArray[np.uint8] = (bits * weights).sum(axis=2, dtype=np.uint8)
    return samples[:, :count]


def coloured(samples: npt.NDArray[np.uint8], *, kind: int, depth: int, palette: bytes) -> npt.NDArray[np.uint8]:
    """(H, W, K) as stored → (H, W) grey or (H, W, 3), full range, alpha dropped."""
    if kind == PALETTE:
        colours = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
        if len(colours) <= int(samples.max()):
            raise ValueError(f"pixel colour {int(samples.max())} is not in its palette of {len(colours)}")
        return np.asarray(colours[samples[:, :, 0]])
    if depth < 8:
        samples = samples * np.uint8(255 // ((1 << depth) - 1))
    return np.ascontiguousarray(samples[:, :, 0] if kind in (GREY, GREY_ALPHA) else samples[:, :, :3])
