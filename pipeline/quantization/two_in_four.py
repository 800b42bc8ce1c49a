"""Have the weights of a file 2:4 structure: of every four neighbouring input channels, at least two zeros?

GPUs from compute capability 8.0 on leave the zeros out, and multiply twice as many of the others in the same time.
Neighbours are counted along the input channels: axis 1 of a convolution's weight (K, C, R, S), the inner axis of a
matrix. A product whose inner axis has no whole fours (the first layer, a depthwise convolution) has no such kernel and
is not counted.

Source: NVIDIA, TensorRT documentation, "Sparsity": 2:4 fine-grained structured sparsity along C.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

PRODUCTS = ("Conv", "Gemm", "MatMul")
GROUP, ZEROS = 4, 2


@dataclass(frozen=True)
class Structure:
    """products: that could have it · structured: that have it"""

    products: int
    structured: int

    @property
    def in_most(self) -> bool:
        """Whether more than half of them have it, which is when sparse kernels are worth a longer build."""
        return 2 * self.structured > self.products


def structure_of(model: onnx.ModelProto) -> Structure:
    """Counted over convolutions and matrix products with constant weights, integer or float."""
    constants = {each.name: each for each in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type not in PRODUCTS:
            continue
        name = node.input[1]
        maker = makers.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear":
            name = maker.input[0]
        if name not in constants:
            continue
        weight = _inner_last(numpy_helper.to_array(constants[name]), node)
        if weight.shape[-1] and weight.shape[-1] % GROUP == 0:
            found.append(is_two_in_four(weight))
    return Structure(len(found), sum(found))


def is_two_in_four(weight: np.ndarray) -> bool:
    """Whether of every four neighbours along the last axis at least two are zero; (…, 4·n).

    >>> is_two_in_four(np.array([[0, 1, 2, 0, 3, 0, 0, 0]])), is_two_in_four(np.array([[0, 1, 2, 3]]))
    (True, False)
    """
    fours = weight.reshape(-1, GROUP)
    return bool(((fours == 0).sum(1) >= ZEROS).all())


def _inner_last(weight: np.ndarray, node: NodeProto) -> np.ndarray:
    """The weight with the axis last that is summed over."""
    if node.op_type == "Conv":
        return np.moveaxis(weight, 1, -1)
    turned = node.op_type == "Gemm" and any(each.name == "transB" and each.i for each in node.attribute)
    return weight if turned or weight.ndim < 2 else np.moveaxis(weight, -2, -1)
