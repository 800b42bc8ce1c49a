"""Both engines built anew for this machine, where one of the bundles was built on another: CI's runners differ.

An engine file is for the kind of processor, and the version of the runtime, that built it. The gate never runs a
foreign one; it builds both networks here, from the `model.onnx` that each bundle carries, by the same steps: the
lowering for this target and the runtime's own build. What the build stage chose besides (kernels in float, another
runtime's file) is not chosen again, so that a change of those choices is not seen, which a remark says.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from pipeline.errors import BundleRefused
from pipeline.quantization.lowering import lowered_for
from targets.target import Target

REMARK = (
    "A bundle's engine was built on another kind of machine, or by another version of its runtime. Both engines were "
    "built anew here, from model.onnx: what is compared is the networks, on this machine."
)


def built_here(folder: Path, manifest: Mapping[str, Any], *, target: Target, threads: int, into: Path) -> Path:
    """The engine of a bundle's network for this machine.

    Raises:
        BundleRefused: the bundle hands over a float engine of a network that is quantized, so that building would
            give another one. EngineRefused: the runtime does not take it.
    """
    model = onnx.load(folder / "model.onnx")
    quantized = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)
    if quantized and not manifest["engine"].get("integer_ops"):
        raise BundleRefused(
            f"{folder} hands over a float engine that was built on another machine, and its model.onnx is the "
            "quantized network: it cannot be built here. Run `compress` for both on this machine."
        )
    into.mkdir(parents=True, exist_ok=True)
    source, engine = into / "lowered.onnx", into / f"engine{target.engine.suffix}"
    onnx.save(lowered_for(model, target.scheme()), source)
    target.engine.build(source, engine, threads=threads)
    return engine
