"""Decode picture files once into one array of pixels on the disk, and find it there the next time.

The array is a .npy file that is mapped into memory, so a data set may be larger than the memory. It is kept under a
digest of the preprocessing and of every file's name, size and time of change; it is written beside and renamed, so one
that is there is whole.

Colours follow Pillow. The orientation that a camera notes (EXIF) is not applied, as in torchvision, with which most
published networks were trained; of several frames the first is taken.

Letters: N pictures that could be read, C channels, H height, W width.
"""

import hashlib
import json
import os
import shutil
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.data.preprocess import Preprocess, pixels_for
from pipeline.errors import OutRefused

READ_AT_ONCE = 256  # pictures in memory between two writes
THREADS_MAX = 8
# What Pillow's readers are known to raise on damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, AttributeError,
           RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Decoded:
    """pixels: uint8 (N, C, H, W), in the order of the files · readable: bool for each file · failed: a line each."""

    pixels: np.ndarray
    readable: np.ndarray
    failed: tuple[str, ...]


def decoded_pixels(
    paths: Sequence[Path],
    *,
    changed: Sequence[tuple[str, int, int]],
    preprocess: Preprocess,
    cache: Path,
    pixels_max: int,
) -> Decoded:
    """The pixels of the pictures at `paths`, from `cache` if they are there.

    changed: for each file its name, its size in bytes and its time of change in ns
    """
    key = hashlib.sha256(json.dumps([preprocess.as_json(), pixels_max, changed]).encode()).hexdigest()[:32]
    kept = cache / "pictures" / key
    if not (kept / "failed.json").is_file():
        try:
            _decode_into(kept, paths, preprocess=preprocess, pixels_max=pixels_max)
        except OSError as error:
            raise OutRefused(
                f"the decoded pictures cannot be written below {cache} ({error}). Free some space, or choose "
                "another folder with --out."
            ) from error
    failed: dict[str, str] = json.loads((kept / "failed.json").read_text())
    readable = np.ones(len(paths), dtype=bool)
    readable[[int(place) for place in failed]] = False
    lines = tuple(f"{paths[int(place)].as_posix()}: {reason}" for place, reason in failed.items())
    return Decoded(np.load(kept / "pixels.npy", mmap_mode="r", allow_pickle=False), readable, lines)


def _decode_into(kept: Path, paths: Sequence[Path], *, preprocess: Preprocess, pixels_max: int) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=kept.parent, prefix=f".{kept.name}-"))
    failed: dict[str, str] = {}
    shape = (preprocess.channels, preprocess.height, preprocess.width)
    try:
        with (beside / "pixels.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, _header(len(paths), shape))
            for place, result in enumerate(_read_all(paths, preprocess=preprocess, pixels_max=pixels_max)):
                if isinstance(result, str):
                    failed[str(place)] = result
                else:
                    file.write(result.tobytes())
            file.seek(0)  # the header leaves room for any number of pictures, so it can be written again
            np.lib.format.write_array_header_1_0(file, _header(len(paths) - len(failed), shape))
            file.flush()
            os.fsync(file.fileno())
        (beside / "failed.json").write_text(json.dumps(failed))
        beside.chmod(0o755)
        try:
            beside.rename(kept)
        except OSError:
            if not (kept / "failed.json").is_file():  # another run may have been faster: then its work is as good
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _header(count: int, shape: tuple[int, ...]) -> dict[str, object]:
    return {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}


def _read_all(paths: Sequence[Path], *, preprocess: Preprocess, pixels_max: int) -> Iterator[np.ndarray | str]:
    """Pixels, or the reason why there are none, in the order of `paths`."""

    def read(path: Path) -> np.ndarray | str:
        try:
            return pixels_for(preprocess, array_from_picture(path, pixels_max=pixels_max))
        except DAMAGED as error:
            return f"cannot be read as a picture ({_in_a_line(error, path)})"

    with warnings.catch_warnings(), ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1)) as threads:
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; what matters is refused above
        for start in range(0, len(paths), READ_AT_ONCE):
            yield from threads.map(read, paths[start : start + READ_AT_ONCE])


def _in_a_line(error: BaseException, path: Path) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a format that Pillow knows"
    text = str(error).replace(str(path), path.name)
    return " ".join(text.split())[:120] or type(error).__name__


def array_from_picture(path: Path, *, pixels_max: int) -> np.ndarray:
    """The first frame: (H, W) or (H, W, 2 … 4), uint8 or uint16. Nothing larger than `pixels_max` is decoded."""
    with Image.open(path) as image:
        if image.width * image.height > pixels_max:
            raise ValueError(f"{image.width}×{image.height} pixels are more than {pixels_max}")
        if image.mode.startswith("I"):  # 16 bits of grey, which older versions of Pillow hold in 32
            wide = np.asarray(image)
            if wide.min() < 0 or wide.max() > 65535:
                raise ValueError("more than 16 bits a pixel")
            return wide.astype(np.uint16)
        if image.mode == "F":
            raise ValueError("floating-point pixels, whose white is not known")
        if image.mode == "1":
            return np.asarray(image.convert("L"))
        if image.mode not in ("L", "LA", "RGB", "RGBA"):  # palettes, CMYK, YCbCr, …
            return np.asarray(image.convert("RGB"))
        return np.asarray(image)
