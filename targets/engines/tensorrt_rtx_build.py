"""A process that builds one ONNX file with TensorRT-RTX for compute capabilities that need not be here.

    python -m targets.engines.tensorrt_rtx_build MODEL.onnx FOLDER 80 86      → FOLDER/built.json, FOLDER/plan

The compiler's log goes to the standard streams, whole. It is a process of its own because the compiler may end it: it
is asked to work without a driver, and its runtime ends the process where one is missing.
"""

import json
import sys
from pathlib import Path
from typing import Any

from targets.stopwatch import now_s

BUILT, PLAN = "built.json", "plan"


def main(arguments: list[str]) -> int:
    """Parse, build, write what became of it; 0 also where the file is refused."""
    import tensorrt_rtx_bindings as rtx  # type: ignore[import-not-found, import-untyped, unused-ignore]

    model, folder, capabilities = Path(arguments[0]), Path(arguments[1]), [int(each) for each in arguments[2:]]
    known = sorted(int(name[2:]) for name in dir(rtx.ComputeCapability) if name[:2] == "SM")
    told: dict[str, Any] = {"version": str(rtx.__version__), "known": known, "refusals": [], "plan_bytes": 0}
    if set(capabilities) <= set(known):
        told |= _built(rtx, model, folder, capabilities)
    (folder / BUILT).write_text(json.dumps(told), encoding="utf-8")
    return 0


def _built(rtx: Any, model: Path, folder: Path, capabilities: list[int]) -> dict[str, Any]:
    logger = rtx.Logger(rtx.Logger.VERBOSE)
    builder = rtx.Builder(logger)
    network = builder.create_network(0)
    parser = rtx.OnnxParser(network, logger)
    if not parser.parse(model.read_bytes()):
        return {"refusals": [_refusal(parser.get_error(place)) for place in range(parser.num_errors)]}
    config = builder.create_builder_config()
    config.profiling_verbosity = rtx.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = len(capabilities)
    for place, capability in enumerate(capabilities):
        config.set_compute_capability(getattr(rtx.ComputeCapability, f"SM{capability}"), place)
    started = now_s()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return {"refusals": [{"node": "", "operator": "", "why": "the parser took it and the builder did not"}]}
    seconds = now_s() - started
    written = bytes(plan)
    (folder / PLAN).write_bytes(written)
    return {"build_s": seconds, "plan_bytes": len(written)}


def _refusal(error: Any) -> dict[str, str]:
    return {"node": error.node_name(), "operator": error.node_operator(), "why": error.desc()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
