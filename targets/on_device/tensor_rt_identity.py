"""Who built an engine, and whether this device may open it.

A plan runs on the TensorRT and the kind of GPU that it was built with; elsewhere it is refused by TensorRT at best and
ends the process at worst, and it holds code. So it is compared first, and a foreign one is never opened.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.on_device.failures import OnDeviceFailure
from targets.on_device.tensor_rt_versions import runtime_name

if TYPE_CHECKING:
    from targets.on_device.tensor_rt_versions import Version

COMPARED = ("runtime", "gpu", "compute_capability", "board", "l4t")
BYTES_PER_MIB = 1024 * 1024
PIECE = 1 << 20


def identity_of_build(
    onnx: Path, *, own: dict[str, Any], settings: dict[str, Any], seen: dict[str, Any]
) -> dict[str, Any]:
    """What the engine carries; `seen` is what the builder itself told, and fills what the facts do not know."""
    identity = {key: own.get(key) or seen.get(key) for key in COMPARED}
    return {**identity, "onnx_sha256": sha256_of(onnx), "settings": settings}


def own_identity(version: Version, facts: dict[str, Any]) -> dict[str, Any]:
    """This device, in the words of an identity."""
    return {**{key: facts.get(key) for key in COMPARED}, "runtime": runtime_name(version)}


def check_identity(job: dict[str, Any], engine: str, *, own: dict[str, Any]) -> None:
    """Refuse an engine that another device, or another TensorRT, has built; "identities" has one per engine."""
    identity = (job.get("identities") or {}).get(engine) or job.get("identity")
    if not isinstance(identity, dict) or not identity.get("runtime"):
        raise OnDeviceFailure("usage", f"the job does not say what built {engine}, so it is not opened.")
    for key in COMPARED:
        theirs, ours = identity.get(key), own.get(key)
        if theirs and ours and str(theirs) != str(ours):
            named = {"gpu": "the GPU", "compute_capability": "compute capability", "l4t": "L4T"}.get(key, f"the {key}")
            raise OnDeviceFailure(
                "refused",
                f"{engine} was built elsewhere: {named} was {theirs}, here it is {ours}. "
                "Build it here: an engine is not carried from one device, or TensorRT, to another.",
            )


def sha256_of(path: Path) -> str:
    """Of the file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(PIECE), b""):
            digest.update(piece)
    return digest.hexdigest()


def timing_cache_of(settings: dict[str, Any], folder: Path, *, own: dict[str, Any], power_mode: Any) -> Path:
    """Where the times of kernels are kept: in the job's folder, or, where the job names a file, beside the blobs.

    That file is the one thing that a job leaves outside its folder. It is one per board and GPU, TensorRT and power
    mode: clocks decide which kernel is the fastest.
    """
    name = settings.get("timing_cache")
    if not name:
        return folder / "timing.cache"
    if not isinstance(name, str) or name != Path(name).name or name.startswith("."):
        raise OnDeviceFailure("usage", f"the timing cache is named {name!r}; a plain file name is wanted.")
    key = "|".join(str(own.get(part)) for part in ("board", "gpu", "compute_capability", "runtime")) + f"|{power_mode}"
    keyed = f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    above = folder.parent.parent
    if not (above / "blobs").is_dir():
        return folder / keyed
    (above / "timing").mkdir(exist_ok=True)
    return above / "timing" / keyed


def workspace_of(settings: dict[str, Any], facts: dict[str, Any]) -> int | None:
    """In MiB: what the job says; on a board, whose GPU has no memory of its own, a quarter of what is free."""
    asked = settings.get("workspace_mb")
    if asked is not None:
        if not isinstance(asked, int) or asked < 1:
            raise OnDeviceFailure("usage", f"the workspace is {asked!r} MiB; a whole number from 1 is wanted.")
        return asked
    free = free_bytes() if facts.get("board") else None
    return None if free is None else max(64, free // 4 // BYTES_PER_MIB)


def free_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """What the system could still hand out."""
    try:
        for line in meminfo.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
