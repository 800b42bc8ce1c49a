"""The inputs that a bundle carries, and its engine's answers to them."""

from pathlib import Path

import numpy as np

from pipeline.errors import BundleRefused
from pipeline.integrity import REPAIR


def examples_in(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The stored inputs and the engine's answers to them.

    Raises:
        BundleRefused: the file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["inputs"], stored["outputs"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise BundleRefused(f"{path} cannot be read ({error}). {REPAIR}") from error
