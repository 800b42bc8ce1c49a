"""The settings that an engine's session has, for the manifest: the same words whether it runs here or on a device."""

from pathlib import Path
from typing import Any

from targets.engines.elsewhere import Elsewhere, said_of
from targets.engines.ort import OnnxRuntime
from targets.runner import Engine


def session_told(engine: Engine, engine_path: Path, *, threads: int) -> dict[str, Any] | None:
    """Of ONNX Runtime as session.py opens it; of a device as it said; None where nobody says."""
    if isinstance(engine, Elsewhere):
        said = said_of(engine_path)
        return said.get("session") or said.get("settings")
    if isinstance(engine, OnnxRuntime):
        return {
            "threads": threads, "provider": "cpu", "precision_mode": False, "graph": "ORT_DISABLE_ALL",
            "execution": "ORT_SEQUENTIAL", "entries": {"session.force_spinning_stop": "1"},
        }  # fmt: skip
    return None
