"""What half precision would change without a word: numbers beyond 65504, scales with few digits, float32 left over.

A float16 scale s is off by up to 2⁻²⁵ where it is below 2⁻¹⁴. Below 2⁻¹⁷ that is more than 1/256 of it, and moves the
greatest code, 127, by half a step: 127 / 256 ≈ 1/2.

Source: IEEE 754-2008, binary16: 11 digits, 65504 at most, 2⁻²⁴ the least above zero.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from pipeline.quantization.lower_float16 import LARGEST, OPSET, SMALLEST_SCALE, must_stay_wide
from pipeline.quantization.quantized_graph import QuantizedGraph, attribute, name_of

FURTHEST = 128  # codes from zero


def half_refusals(model: onnx.ModelProto, graph: QuantizedGraph) -> Iterator[str]:
    """One sentence for each node that would not compute in half precision what it does in float32."""
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if opset < OPSET:
        yield f"The graph uses operator set {opset}; scales of float16 need {OPSET} or later."
    kinds = {each.name: each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.output)}
    for name, kind in kinds.items():
        if kind == TensorProto.FLOAT:
            yield f"{name}: this input or output is float32 in a float16 graph; a Cast would be needed, store float16."
    for node in graph.nodes:
        where = name_of(node)
        if node.op_type == "Cast" and attribute(node, "to", 0) == TensorProto.FLOAT:
            yield f"{where}: it casts to float32 in a float16 graph; cast to float16, or leave it out."
        pair = node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for place, name in enumerate(node.input):
            values = graph.constants.get(name)
            if values is None or values.dtype.kind != "f" or must_stay_wide(node, place):
                continue
            if values.dtype != np.float16:
                yield f"{where}: its constant {name} is {values.dtype.name} in a float16 graph; store it as float16."
            elif pair and place == 1:
                yield from _scale(where, values.astype(np.float64))
            elif not np.isfinite(values).all():
                yield (
                    f"{where}: its constant {name} holds a value beyond {LARGEST:.0f}, where float16 ends; keep this "
                    "layer in float32, or train with weight decay."
                )


def _scale(where: str, scale: np.ndarray) -> Iterator[str]:
    small, large = scale < SMALLEST_SCALE, scale * FURTHEST > LARGEST
    if small.any():
        yield (
            f"{where}: {int(small.sum())} of {scale.size} scales are below {SMALLEST_SCALE:.2g}, where float16 has "
            f"less than 8 digits (the least is {scale.min():.2g}); scale those weights up, or keep float32."
        )
    if large.any():
        yield (
            f"{where}: the scale {scale.max():.4g} takes code {FURTHEST} beyond {LARGEST:.0f}, where float16 ends; "
            "narrow the range of that tensor, or keep float32."
        )
