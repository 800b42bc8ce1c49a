"""The peak of this process when it has opened one engine and answered one batch: as `targets/engines/memory_probe.py`.

The figure is that of the whole process, with the interpreter, numpy and the runtime: what the device must have free.
With CUDA it is host memory; what lies in the memory of a graphics card is not in it.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

from targets.on_device.onnx_runtime_arrays import asked, questions
from targets.on_device.onnx_runtime_session import open_session, settings_of

STATUS = Path("/proc/self/status")


def peak_after_one_answer(job: dict[str, Any], folder: Path) -> int:
    """Bytes, after the first answer."""
    session = open_session(folder / job["engine"], settings_of(job))
    asked(session, questions(session, job, folder).first())
    return peak_bytes()


def peak_bytes() -> int:
    """The highest resident memory of this process so far."""
    # VmHWM begins at nought with the new program; across fork and exec ru_maxrss carries over the peak of the parent.
    if STATUS.exists():
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024  # the kernel says kB and means 1024 bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
