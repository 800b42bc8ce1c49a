"""Read JPEG: baseline, extended sequential and progressive Huffman files of 8 bits, grey or three colours.

ITU-T T.81 (1992), annex B: the markers. The bits between them are read in jpeg_scan.py, and turned into pixels in
jpeg_pixels.py. Stands alone (standard library and numpy), because a bundle carries a copy. The EXIF orientation is left
alone, as Pillow's open() leaves it.

Letters: H height, W width.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
import numpy.typing as npt

if __package__:
    from pipeline.data.jpeg_pixels import enlarged, rgb_from_ycc, samples_from_coefficients
    from pipeline.data.jpeg_scan import Band, bit_windows, huffman_table, read_first, read_refinement
else:  # beside this file in a bundle
    from jpeg_pixels import (  # type: ignore[import-not-found, no-redef]
        enlarged,
        rgb_from_ycc,
        samples_from_coefficients,
    )
    from jpeg_scan import (  # type: ignore[import-not-found, no-redef]
        Band,
        bit_windows,
        huffman_table,
        read_first,
        read_refinement,
    )

JPEG_SIGNATURE = b"\xff\xd8\xff"
SHORT = "it is cut short"
REFUSED = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical", 0xC9: "arithmetic-coded",
           0xCA: "arithmetic-coded", 0xCB: "arithmetic-coded", 0xCD: "hierarchical", 0xCE: "hierarchical",
           0xCF: "hierarchical"}  # fmt: skip
RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
NEXT_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")


@dataclass
class Component:
    """One colour plane: its sampling factors, its place among all coefficients, and its size in blocks."""

    name: int
    across: int
    down: int
    quantizer: int
    width: int = 0  # samples that belong to the image
    height: int = 0
    base: int = 0
    stride: int = 0  # blocks per row, padded to whole interleaved units
    rows: int = 0
    steps: npt.NDArray[np.float64] | None = None  # of the quantizer in force at its first scan


@dataclass
class File:
    """What the markers said so far."""

    width: int = 0
    height: int = 0
    progressive: bool = False
    components: list[Component] = field(default_factory=list)
    coefficients: array[int] = field(default_factory=lambda: array("h"))
    steps: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)
    tables: dict[int, array[int]] = field(default_factory=dict)  # by class << 4 | number
    interval: int = 0  # interleaved units between restarts; 0: none
    jfif: bool = False
    adobe_transform: int | None = None


def decode_jpeg(data: bytes, *, most_pixels: int) -> npt.NDArray[np.uint8]:
    """The bytes of a JPEG file → (H, W) or (H, W, 3). ValueError says what is wrong with them."""
    file = File()
    at = 2
    while True:
        found = NEXT_MARKER.search(data, at)
        if not found:
            raise ValueError(f"{SHORT}: no end-of-image marker")
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            break
        if marker in (0x01, 0xD8):
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        body, at = data[at + 2 : at + length], at + length
        if len(body) != length - 2:
            raise ValueError(f"{SHORT} inside marker 0x{marker:02X}")
        if marker in REFUSED:
            raise ValueError(f"{REFUSED[marker]} JPEG is not read; save it as baseline or progressive")
        if marker in (0xC0, 0xC1, 0xC2):
            start_frame(file, body, progressive=marker == 0xC2, most_pixels=most_pixels)
        elif marker == 0xC4:
            add_huffman_tables(file, body)
        elif marker == 0xDB:
            add_quantizers(file, body)
        elif marker == 0xDD:
            file.interval = int.from_bytes(body, "big")
        elif marker == 0xE0 and body[:5] == b"JFIF\0":
            file.jfif = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            file.adobe_transform = body[11]
        elif marker == 0xDA:
            found = NEXT_MARKER.search(data, at)
            scan, at = data[at : found.start() if found else None], found.start() if found else len(data)
            read_scan(file, body, RESTART.split(scan))
    return image_of(file)


def start_frame(file: File, body: bytes, *, progressive: bool, most_pixels: int) -> None:
    if file.components:
        raise ValueError("it holds two frames")
    file.height, file.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    file.progressive = progressive
    if body[0] != 8:
        raise ValueError(f"its samples have {body[0]} bits; 8 are read")
    if body[5] not in (1, 3):
        raise ValueError(
            f"it has {body[5]} colour planes (4: CMYK); grey or three colours are read, so convert it to RGB"
        )
    if not 0 < file.width * file.height <= most_pixels:
        raise ValueError(f"its header asks for {file.width}×{file.height} pixels")
    file.components = [
        Component(name=body[i], across=body[i + 1] >> 4, down=body[i + 1] & 15, quantizer=body[i + 2])
        for i in range(6, 6 + 3 * body[5], 3)
    ]
    across, down = (max(getattr(part, way) for part in file.components) for way in ("across", "down"))
    base = 0
    for part in file.components:
        if not part.across or not part.down or across % part.across or down % part.down or across > 4 or down > 4:
            raise ValueError(f"a colour plane is sampled {part.across}×{part.down} beside {across}×{down}")
        part.width = -(-file.width * part.across // across)
        part.height = -(-file.height * part.down // down)
        part.stride = -(-file.width // (8 * across)) * part.across
        part.rows = -(-file.height // (8 * down)) * part.down
        part.base, base = base, base + 64 * part.stride * part.rows
    file.coefficients = array("h", bytes(2 * base))


def add_huffman_tables(file: File, body: bytes) -> None:
    at = 0
    while at < len(body):
        counts = body[at + 1 : at + 17]
        symbols = body[at + 17 : at + 17 + sum(counts)]
        if body[at] >> 4 == 0 and max(symbols, default=0) > 15:
            raise ValueError("a Huffman table holds a DC size above 15")
        file.tables[body[at]] = huffman_table(counts, symbols)
        at += 17 + len(symbols)


def add_quantizers(file: File, body: bytes) -> None:
    at = 0
    while at < len(body):
        wide, number = body[at] >> 4, body[at] & 15
        end = at + 1 + 64 * (1 + wide)
        file.steps[number] = np.frombuffer(body[at + 1 : end], ">u2" if wide else "u1", count=64).astype(np.float64)
        at = end


def read_scan(file: File, body: bytes, intervals: list[bytes]) -> None:
    """One scan's bits into `file.coefficients`."""
    parts = []
    dc_tables, ac_tables = [], []
    start, end, high, low = body[-3], body[-2], body[-1] >> 4, body[-1] & 15
    if not file.progressive:
        start, end, high, low = 0, 63, 0, 0
    if (
        not body[0]
        or len(body) != 4 + 2 * body[0]
        or not start <= end <= 63
        or (file.progressive and not start < end + 1)
    ):
        raise ValueError("a scan header is damaged")
    if file.progressive and ((start == 0) != (end == 0) or (start and body[0] > 1)):
        raise ValueError("a progressive scan mixes DC and AC coefficients")
    nothing = array("H")
    for i in range(1, 1 + 2 * body[0], 2):
        part = next((part for part in file.components if part.name == body[i]), None)
        if part is None or part.quantizer not in file.steps:
            raise ValueError("a scan names a colour plane or a quantizer that does not exist")
        part.steps = file.steps[part.quantizer] if part.steps is None else part.steps
        parts.append(part)
        dc_tables.append(file.tables.get(body[i + 1] >> 4, nothing))
        ac_tables.append(file.tables.get(0x10 | body[i + 1] & 15, nothing))
    band = Band(start=start, end=end, low=low, dc_tables=dc_tables, ac_tables=ac_tables)
    read = read_refinement if high else read_first
    bases, slots = block_order(file, parts)
    per_interval = file.interval or len(bases)
    if len(intervals) != -(-len(bases) // per_interval):
        raise ValueError(f"{SHORT}: {len(intervals)} restart intervals for {len(bases)} units of {per_interval}")
    for number, interval in enumerate(intervals):
        windows, bits = bit_windows(interval.rstrip(b"\xff") if interval.endswith(b"\xff") else interval)
        places = bases[number * per_interval : (number + 1) * per_interval].ravel().tolist()
        try:
            taken = read(windows, zip(places, cycle(slots)), band=band, into=file.coefficients)
        except IndexError:
            taken = bits + 1  # it looked for bits (or a table) that are not there
        if taken > bits:
            raise ValueError(f"{SHORT}, or damaged, inside its pixels")


def block_order(file: File, parts: list[Component]) -> tuple[npt.NDArray[np.int64], list[int]]:
    """In the scan's order: every block's first coefficient (units, blocks per unit); the slot of each column."""
    if len(parts) == 1:  # only blocks that touch the image
        part = parts[0]
        y, x = np.divmod(np.arange(-(-part.width // 8) * -(-part.height // 8)), -(-part.width // 8))
        return (part.base + 64 * (y * part.stride + x))[:, np.newaxis], [0]
    wide, high = parts[0].stride // parts[0].across, parts[0].rows // parts[0].down
    y, x = np.divmod(np.arange(wide * high), wide)
    columns, slots = [], []
    for slot, part in enumerate(parts):
        for down in range(part.down):
            for across in range(part.across):
                columns.append(part.base + 64 * ((y * part.down + down) * part.stride + x * part.across + across))
                slots.append(slot)
    return np.stack(columns, axis=1), slots


def image_of(file: File) -> npt.NDArray[np.uint8]:
    """Everything that was read → (H, W) grey or (H, W, 3) RGB."""
    planes = []
    for part in file.components:
        if part.steps is None:
            raise ValueError("a colour plane is missing")
        stored = np.frombuffer(file.coefficients, np.int16)[part.base :][: 64 * part.stride * part.rows]
        samples = samples_from_coefficients(stored.reshape(part.rows, part.stride, 64), steps=part.steps)
        across = max(other.across for other in file.components) // part.across
        down = max(other.down for other in file.components) // part.down
        full = enlarged(samples[: part.height, : part.width], across=across, down=down)
        planes.append(full[: file.height, : file.width])
    if not planes:
        raise ValueError("it holds no frame")
    if len(planes) == 1:
        return planes[0].astype(np.uint8)
    named_rgb = bytes(part.name for part in file.components) == b"RGB"
    if not file.jfif and (file.adobe_transform == 0 or (file.adobe_transform is None and named_rgb)):
        return np.stack(planes, axis=2).astype(np.uint8)
    return rgb_from_ycc(planes)
