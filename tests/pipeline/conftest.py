"""What tests of the image readers share, and of whatever trains: pictures as files, and a training that is killed."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pipeline.training.batches import Batch


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture(scope="session")
def killed() -> type[BaseException]:
    """What `labels_objective` raises when it is killed."""
    return Killed


@pytest.fixture(scope="session")
def labels_objective() -> Callable[..., Callable[[nn.Module, Batch], Tensor]]:
    """Makes a loss by the labels alone that is killed at the call of that number, or never."""

    def make(*, killed_at: int | None = None) -> Callable[[nn.Module, Batch], Tensor]:
        calls = 0

        def objective(module: nn.Module, batch: Batch) -> Tensor:
            nonlocal calls
            if calls == killed_at:
                raise Killed
            calls += 1
            return F.cross_entropy(module(batch.inputs), batch.labels)

        return objective

    return make


@pytest.fixture(scope="session")
def picture() -> Callable[..., NDArray[np.uint8]]:
    """Makes patches with soft edges: unlike noise, they leave a JPEG both large and absent coefficients."""

    def make(high: int, wide: int, *, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
        coarse = np.random.default_rng(seed).integers(0, 256, (high // 7 + 2, wide // 7 + 2, 4), dtype=np.uint8)
        smooth: NDArray[np.uint8] = np.asarray(Image.fromarray(coarse).resize((wide, high)))
        return np.ascontiguousarray(smooth[:, :, :channels])

    return make


@pytest.fixture(scope="session")
def file_of() -> Callable[..., bytes]:
    """Makes the bytes of an image's file: `file_of(image, "PNG")`."""

    def save(image: Image.Image, form: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, form, **options)
        return file.getvalue()

    return save


@pytest.fixture(scope="session")
def as_pillow_reads() -> Callable[..., NDArray[np.uint8]]:
    """Reads the bytes of a file by Pillow, grey or in colours as another reader found it."""

    def read(data: bytes, *, like: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(Image.open(io.BytesIO(data)).convert("L" if like.ndim == 2 else "RGB"))

    return read
