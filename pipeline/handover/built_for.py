"""Was an engine file built for this processor, and is it whole? What its stamp says, for `run.py` beside this file.

The stamp stands behind the model (targets/engines/stamp.py writes it): a graph laid out for another processor can
answer wrongly instead of failing, so it is compared before a runtime sees a byte.

Stands in a bundle: Python 3.8 or later.
"""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

STAMP = b"edge_compress.stamp"  # behind the model in an engine file: what wrote it, and its digest
CPUINFO = Path("/proc/cpuinfo")
# As in targets/reach/local.py, which a bundle does not have: those that decide which kernels a runtime takes.
FEATURES_OF_INTEREST = (
    "sse4_1", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl",
    "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8",
    "asimd", "asimdhp", "asimddp", "i8mm", "sve", "sve2",
)  # fmt: skip


def model_and_stamp(engine: Path) -> tuple[bytes, dict[str, Any]]:
    """What stands before the stamp of an engine file, sound by its digest, and the stamp; {} where there is none.

    Raises:
        ValueError: it is damaged; the message is the end of a sentence.
    """
    written = engine.read_bytes()
    _, found, stamp = written.rpartition(STAMP)
    if not found:
        return written, {}
    try:
        facts: dict[str, Any] = json.loads(stamp[stamp.index(b"{") :])
        model = written[: facts["bytes"]]
        sound = hashlib.sha256(model).hexdigest() == facts["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("it is damaged") from error
    if not sound:
        raise ValueError("it is damaged")
    return model, facts


def why_not_here(stamp: dict[str, Any]) -> str:
    """Why an engine of this stamp is not for this processor; "" where it is, or where nothing is known of one."""
    theirs, ours = str(stamp.get("architecture") or ""), platform.machine().lower()
    if theirs and theirs != ours:
        return f"it was built for {theirs}, and this machine is {ours}"
    features = features_here()
    if features is None or not isinstance(stamp.get("cpu_features"), list):
        return ""
    built_for = set(stamp["cpu_features"])
    differs = [f"+{name}" for name in sorted(built_for - features)] + [
        f"-{name}" for name in sorted(features - built_for)
    ]
    return f"it was built for a processor with other features: {', '.join(differs)}" if differs else ""


def features_here() -> set[str] | None:
    """The features of interest that this processor has; None where they cannot be read."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split()) & set(FEATURES_OF_INTEREST)
    return None
