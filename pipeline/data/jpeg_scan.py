"""The bits of a JPEG scan → DCT coefficients: Huffman coding, sequential and progressive.

ITU-T T.81 (1992), annexes F and G. Stands alone (standard library and numpy), because a bundle carries a copy.

The loops are plain Python, one turn per Huffman code. What keeps them quick: for every byte of the scan the 40 bits
that start there are prepared with numpy, so a code (at most 16 bits) and the number behind it (at most 15 bits) come
out of one window by shifting; and a code is found by one look into a table of all 65 536 words of 16 bits.

A first pass (`read_first`) writes values, a later one (`read_refinement`) adds one bit to them. A sequential scan is a
first pass over coefficients 0..63 with no bit held back, so it needs no code of its own.

Words: band, the coefficients start..end that a scan carries; low, how many low bits it holds back; slot, the number of
a component within the scan; base, the place of a block's first coefficient.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

WINDOW_BITS = 40  # 7 bits into the first byte + 16 of code + 15 of value = 38, in whole bytes
NO_CODE = "a Huffman code in it does not exist"
OUTSIDE = "a run of zeros leads out of its block"


@dataclass(frozen=True)
class Band:
    """What one scan carries. The tables are one per slot; a table that the scan does not need is empty."""

    start: int
    end: int
    low: int
    dc_tables: list[array[int]]
    ac_tables: list[array[int]]


def huffman_table(counts: bytes, symbols: bytes) -> array[int]:
    """How many codes of each length 1..16, and their symbols → for each 16-bit word, length << 8 | symbol (0: none)."""
    lengths = np.repeat(np.arange(1, 17), list(counts))
    spans = 1 << (16 - lengths)  # how many words begin with this code; codes are handed out in rising order
    if len(symbols) != len(lengths) or int(spans.sum()) > 1 << 16:
        raise ValueError("a Huffman table does not add up")
    table = np.zeros(1 << 16, np.uint16)
    table[: int(spans.sum())] = np.repeat(lengths << 8 | np.frombuffer(symbols, np.uint8), spans)
    return array("H", table.tobytes())


def bit_windows(stuffed: bytes) -> tuple[array[int], int]:
    """The bytes between two markers → the 40 bits from each byte on, and how many bits there are."""
    plain = stuffed.replace(b"\xff\x00", b"\xff")  # 0xFF is written with a 0 behind it, lest it look like a marker
    padded = np.frombuffer(plain + bytes(8), np.uint8).astype(np.uint64)
    count = len(plain) + 3
    windows = np.zeros(count, np.uint64)
    for place in range(5):
        windows |= padded[place : place + count] << np.uint64(WINDOW_BITS - 8 - 8 * place)
    return array("Q", windows.tobytes()), 8 * len(plain)


def read_first(windows: array[int], blocks: Iterable[tuple[int, int]], *, band: Band, into: array[int]) -> int:
    """Write the band's coefficients of each (base, slot) into `into`, zigzag order; how many bits it took."""
    start, end, low = max(band.start, 1), band.end, band.low
    predictions = [0] * len(band.dc_tables)
    at = 0
    skip = 0  # blocks whose band is announced to be empty
    for base, slot in blocks:
        if band.start == 0:
            window, offset = windows[at >> 3], at & 7
            entry = band.dc_tables[slot][window >> 24 - offset & 0xFFFF]
            if not entry:
                raise ValueError(NO_CODE)
            size = entry & 255
            length = (entry >> 8) + size
            if size:
                value = window >> WINDOW_BITS - offset - length & (1 << size) - 1
                predictions[slot] += value if value >> size - 1 else value - (1 << size) + 1
            at += length
            into[base] = predictions[slot] << low
        if skip:
            skip -= 1
            continue
        table = band.ac_tables[slot]
        k = start
        while k <= end:
            window, offset = windows[at >> 3], at & 7
            entry = table[window >> 24 - offset & 0xFFFF]
            if not entry:
                raise ValueError(NO_CODE)
            run, size = entry >> 4 & 15, entry & 15
            length = entry >> 8
            if size:
                k += run
                if k > end:
                    raise ValueError(OUTSIDE)
                length += size
                value = window >> WINDOW_BITS - offset - length & (1 << size) - 1
                into[base + k] = (value if value >> size - 1 else value - (1 << size) + 1) << low
                at += length
                k += 1
            elif run == 15:
                at += length
                k += 16
            else:  # this block's band ends here, and 2^run − 1 + (the next run bits) further ones are empty
                length += run
                skip = (window >> WINDOW_BITS - offset - length & (1 << run) - 1) + (1 << run) - 1
                at += length
                break
    return at


def read_refinement(windows: array[int], blocks: Iterable[tuple[int, int]], *, band: Band, into: array[int]) -> int:
    """Add bit `low` to the band's coefficients of each (base, slot); how many bits it took."""
    at = 0
    if band.start == 0:
        for base, _ in blocks:
            into[base] |= (windows[at >> 3] >> WINDOW_BITS - 1 - (at & 7) & 1) << band.low
            at += 1
        return at
    end, plus = band.end, 1 << band.low
    skip = 0
    for base, slot in blocks:
        table = band.ac_tables[slot]
        k = band.start
        while k <= end:
            run, arriving = 64, 0  # in a band announced empty: pass over all of it, correcting what is there
            if not skip:
                window, offset = windows[at >> 3], at & 7
                entry = table[window >> 24 - offset & 0xFFFF]
                if not entry:
                    raise ValueError(NO_CODE)
                run, size, length = entry >> 4 & 15, entry & 15, entry >> 8
                if size:  # one coefficient becomes ±1 at this bit, behind `run` that stay zero
                    length += 1
                    arriving = plus if window >> WINDOW_BITS - offset - length & 1 else -plus
                elif run < 15:
                    length += run
                    skip = (window >> WINDOW_BITS - offset - length & (1 << run) - 1) + (1 << run)
                    run = 64
                at += length
            while k <= end:
                value = into[base + k]
                if value:
                    if windows[at >> 3] >> WINDOW_BITS - 1 - (at & 7) & 1:
                        into[base + k] = value + (plus if value > 0 else -plus)
                    at += 1
                elif run:
                    run -= 1
                else:
                    into[base + k] = arriving
                    k += 1
                    break
                k += 1
        if skip:
            skip -= 1
    return at
