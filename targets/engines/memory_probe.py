"""A process that opens one engine, answers one batch, and says how much memory that took at its peak.

    python -m targets.engines.memory_probe ENGINE INPUTS.npy THREADS RUNTIME    → bytes

The figure is that of the whole process, with the interpreter, numpy and the runtime: what the device must have free.
"""

import resource
import sys
from pathlib import Path

import numpy as np

from targets.engines.openvino_model import imported, runner_of_model
from targets.engines.session import SessionRunner, open_session, runner_of
from targets.engines.stamp import read_stamped

STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """The highest resident memory of this process so far."""
    # VmHWM begins at nought with the new program. ru_maxrss does not: across fork and exec Linux carries over the
    # peak of the parent, which here holds torch.
    if STATUS.exists():
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024  # the kernel says kB and means 1024 bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes


def opened(engine: Path, *, threads: int, runtime: str) -> SessionRunner:
    """The engine in the runtime of this name."""
    if runtime == "openvino":
        model = imported(read_stamped(engine)[1], path=engine, threads=threads)
        return runner_of_model(model, path=engine)
    return runner_of(open_session(engine, threads=threads, optimize=False), path=engine)


def main(arguments: list[str]) -> int:
    """Open, answer one batch, say the peak on stdout."""
    engine, inputs, threads = Path(arguments[0]), np.load(arguments[1]), int(arguments[2])
    runner = opened(engine, threads=threads, runtime=arguments[3])
    runner(inputs[: runner.door.fixed_batch])
    sys.stdout.write(f"{peak_bytes()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
