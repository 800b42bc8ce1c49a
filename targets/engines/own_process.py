"""How much memory an engine takes, measured in a process that holds nothing else."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from targets.errors import EngineFailed

PACKAGES = Path(__file__).parents[2]  # the folder that holds `targets`


def peak_of_its_own(engine_path: Path, inputs: NDArray[np.float32], *, threads: int, runtime: str) -> int:
    """Bytes at the peak of a fresh process that opens the engine in this runtime and answers one batch.

    runtime: the name of an engine that `memory_probe.py` can open

    Raises:
        EngineFailed: the engine cannot be opened or asked there.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "inputs.npy"
        np.save(asked, inputs)
        command = [sys.executable, "-m", "targets.engines.memory_probe", str(engine_path.resolve()), str(asked)]
        ended = subprocess.run(
            [*command, str(threads), runtime], cwd=PACKAGES, capture_output=True, text=True, check=False
        )
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise EngineFailed(f"The engine {engine_path} fails in a process of its own: {said[-1]}")
    return int(ended.stdout.split()[-1])
