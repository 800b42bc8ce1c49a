"""Linear layers in the one form that ONNX Runtime multiplies in integers: Gemm, int32 bias, its quantizer right behind.

    MatMul(x, wᵀ) → Add(b), x of three axes and more     becomes   Reshape(x) → Gemm(x, w, b₃₂) → Reshape
    the same → Relu → QuantizeLinear                     becomes   the same → Relu → QuantizeLinear → Reshape
    Gemm(x, w, b), its answers float                     becomes   Gemm(x, w, b₃₂)

x and w are dequantized codes, b₃₂ = DequantizeLinear( round(b / (s_x · s_w)) ). ONNX Runtime makes a Gemm of the upper
forms by itself, and an int32 bias as well, but the latter only where the answers are quantized. Elsewhere it keeps the
float bias and dequantizes the weights at every call: an encoder of 4×192 was 4 times slower than in float. In this form
it is 1.40 times faster (placement.py). Its own Reshape stands right behind the Gemm: what is between that and the
quantizer, a ReLU, keeps it float. A clip that does not end where the codes end would too, and stays behind the Reshape.

Exact: codes are moved as they are, and the biases of quantized layers lie on that grid already (bias_grid.py).

Letters: s_x, s_w scales of input and weights.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

from pipeline.quantization.integer_operators import bias_codes, quantized_values
from pipeline.quantization.quantized_graph import QuantizedGraph, attribute, quantized_graph, with_nodes
from targets.engines.onnx_shapes import fixed_shapes


@dataclass(frozen=True)
class _Linear:
    """One layer: its product, the node that adds its bias (itself, for a Gemm), and what they read.

    source, weight: the DequantizeLinear of each · turned: whether the weight has its outputs first · shape: of answers
    behind: the ReLUs and the quantizer that become one with it; () where its answers are float
    """

    product: NodeProto
    last: NodeProto
    source: NodeProto
    weight: NodeProto
    bias: np.ndarray
    turned: bool
    shape: tuple[int, ...]
    behind: tuple[NodeProto, ...]


def linear_in_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which every linear layer behind a quantizer can run in integers."""
    graph, shapes = quantized_graph(model), fixed_shapes(model)
    found = [each for node in model.graph.node if (each := _linear(node, graph, shapes)) is not None]
    replaced = {(each.last, *each.behind)[-1].output[0]: each for each in found}
    nodes: list[NodeProto] = []
    constants = list(model.graph.initializer)
    for node in model.graph.node:
        layer = replaced.get(node.output[0])
        nodes += _in_integers(layer, graph, constants) if layer is not None else [node]
    lowered = with_nodes(model, nodes, constants)
    del lowered.graph.value_info[:]
    return shape_inference.infer_shapes(lowered)


def _linear(product: NodeProto, graph: QuantizedGraph, shapes: dict[str, tuple[int, ...]]) -> _Linear | None:
    """The layer that this product is, if the runtime needs another form of it and all that is needed is stored."""
    if product.op_type not in ("MatMul", "Gemm"):
        return None
    last: NodeProto | None = product
    if product.op_type == "MatMul":
        readers = graph.readers.get(product.output[0], ())
        alone = len(readers) == 1 and product.output[0] not in graph.outputs
        last = readers[0] if alone and readers[0].op_type == "Add" else None
    source, (weight, turned) = graph.dequantizer(product.input[0]), _weight(product, graph)
    if last is None or source is None or weight is None:
        return None
    names = product.input[2:] if last is product else [name for name in last.input if name != product.output[0]]
    bias = graph.constants.get(names[0]) if names else None
    shape = shapes.get(last.output[0], ())
    outputs = graph.constants[weight.input[0]].shape[0 if turned else 1]
    plain = (attribute(product, "alpha", 1.0), attribute(product, "beta", 1.0), attribute(product, "transA", 0))
    if (
        (last is product and graph.is_quantized(last.output[0]))  # two axes: as it is, it becomes integer
        or plain != (1, 1, 0)
        or bias is None
        or bias.shape != (outputs,)
        or not np.isfinite(bias).all()
        or not shape
        or 0 in shape
    ):
        return None
    behind = _behind(last, graph) if last is not product else ()
    return _Linear(product, last, source, weight, bias, turned, shape, behind)


def _behind(last: NodeProto, graph: QuantizedGraph) -> tuple[NodeProto, ...]:
    """ReLUs and clips up to the quantizer, and this, if they alone read what is before and end where the codes end."""
    found, name, lowest, highest = list[NodeProto](), last.output[0], -np.inf, np.inf
    while not found or found[-1].op_type != "QuantizeLinear":
        readers = graph.readers.get(name, ())
        if len(readers) != 1 or name in graph.outputs or readers[0].op_type not in ("Relu", "Clip", "QuantizeLinear"):
            return ()
        bounds = (-np.inf, np.inf) if readers[0].op_type == "QuantizeLinear" else graph.bounds(readers[0])
        if bounds is None:
            return ()
        lowest, highest, name = max(lowest, bounds[0]), min(highest, bounds[1]), readers[0].output[0]
        found.append(readers[0])
    pair = graph.pair(found[-1])
    limits = np.iinfo(pair.zero.dtype)
    if pair.scale.ndim:
        return ()
    ends = tuple(int(quantized_values(np.asarray(end), pair)) for end in (lowest, highest))
    return tuple(found) if ends == (limits.min, limits.max) else ()


def _weight(product: NodeProto, graph: QuantizedGraph) -> tuple[NodeProto | None, bool]:
    """The DequantizeLinear of the stored matrix, and whether that has the outputs first."""
    made, turned = graph.maker.get(product.input[1]), bool(attribute(product, "transB", 0))
    if made is not None and made.op_type == "Transpose":
        made, turned = graph.maker.get(made.input[0]), not turned
    if made is None or made.op_type != "DequantizeLinear" or made.input[0] not in graph.constants:
        return None, turned
    return (made if graph.constants[made.input[0]].ndim == 2 else None), turned


def _in_integers(layer: _Linear, graph: QuantizedGraph, constants: list[TensorProto]) -> list[NodeProto]:
    name = layer.product.output[0]
    inputs, weight = graph.pair(layer.source), graph.pair(layer.weight)

    def stored(ending: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, f"{name}.{ending}"))
        return f"{name}.{ending}"

    codes = bias_codes(layer.bias, inputs=inputs, weight=weight)
    limits = np.iinfo(np.int32)
    scale = (inputs.scale * weight.scale).astype(np.float32)  # (K,)
    bias = [
        stored("bias_codes", np.clip(codes, limits.min, limits.max).astype(np.int32)),  # the validator warns before
        stored("bias_scale", scale),
        stored("bias_zero", np.zeros(scale.shape, np.int32)),
    ]
    nodes = [helper.make_node("DequantizeLinear", bias, [f"{name}.whole_bias"], name=f"{name}.whole_bias", axis=0)]
    read = layer.source.output[0]
    flat = layer.product.op_type == "Gemm"
    if not flat:
        rows = stored("rows", np.array([-1, graph.constants[layer.weight.input[0]].shape[1 if layer.turned else 0]]))
        read = f"{name}.read"
        pair = [stored("scale", inputs.scale), stored("zero", inputs.zero)]
        nodes += [
            helper.make_node("Reshape", [layer.source.input[0], rows], [f"{read}_codes"], name=f"{name}.flatten"),
            helper.make_node("DequantizeLinear", [f"{read}_codes", *pair], [read], name=f"{name}.dequantize"),
        ]
    answers = layer.last.output[0] if flat else f"{name}.answers"
    operands = [read, layer.weight.output[0], f"{name}.whole_bias"]
    gemm = layer.product.name or name
    nodes.append(helper.make_node("Gemm", operands, [answers], name=gemm, transB=int(layer.turned)))
    for node in layer.behind:
        again = NodeProto()
        again.CopyFrom(node)
        again.input[0], again.output[0] = answers, f"{node.output[0]}.flat"
        answers = again.output[0]
        nodes.append(again)
    if not flat:
        shape, result = stored("shape", np.array(layer.shape)), (layer.last, *layer.behind)[-1].output[0]
        nodes.append(helper.make_node("Reshape", [answers, shape], [result], name=f"{name}.unflatten"))
    return nodes
