"""What it costs to have a layer in float: the ms that its integers save, or its multiply-accumulates.

Both engines of one network, the integer and the float one, are timed operator by operator. A runtime names its
operators after the graph it was given, with what it has joined: ONNX Runtime calls a product after its own node, with
a number behind it, or after the tensor that leaves the activation behind it. Where a layer cannot be found in both
again, no layer has a time, and multiply-accumulates are the price of all.

Even where integers save nothing a float layer among integer ones is no present: its tensors are converted on the way in
and out. So it costs a fifth of its float time at the least.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import NodeProto
from torch import Tensor, fx, nn

from pipeline.graph.trace import layer_of
from pipeline.quantization.fake_quant import QuantizedWeight
from pipeline.quantization.placement import WEIGHTED
from pipeline.quantization.quantized_graph import PRODUCTS, QuantizedGraph, quantized_graph
from targets.runner import LayerTime

# What a runtime computes in one go with the product before it.
JOINED = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid")
ADDED_TO_NAMES = re.compile(r"^fused |(_token_\d+|_nchwc)$")  # by ONNX Runtime 1.31
CONVERSION_SHARE = 0.2  # of a layer's float time; measured 0.22 for 32 channels on 56×56


@dataclass(frozen=True)
class Prices:
    """What it costs to have a layer in float; above 0 for every layer.

    unit: ms, or MACs · origin: where the prices come from, for the report
    """

    by_layer: Mapping[str, float]
    unit: str
    origin: str

    def of(self, layers: Collection[str]) -> float:
        """All of them together."""
        return sum(self.by_layer[name] for name in layers)


def prices_from_times(floating: Mapping[str, float], integer: Mapping[str, float]) -> Prices:
    """Of each layer that was timed in both engines, in ms."""
    saved = {
        name: max(float_ms - integer[name], CONVERSION_SHARE * float_ms, 1e-6)  # a clock that counts in µs may say 0
        for name, float_ms in floating.items()
        if name in integer
    }
    return Prices(saved, "ms", "the time of each layer in the float engine less that in the integer engine")


def prices_from_macs(student: fx.GraphModule, *, one: Tensor, why: str) -> Prices:
    """Of each layer, in multiply-accumulates for one input (1, …); why: there are no times."""
    macs = macs_by_layer(student, one=one)
    return Prices({name: max(count, 1.0) for name, count in macs.items()}, "MACs", f"multiply-accumulates ({why})")


def layers_in_order(student: fx.GraphModule) -> list[str]:
    """The convolutions and linear layers of a traced network as they are called, quantized or not."""
    return [
        str(node.target)
        for node in student.graph.nodes
        if isinstance(layer_of(student, node), (*WEIGHTED, QuantizedWeight))
    ]


def times_by_layer(
    model: onnx.ModelProto, times: Sequence[LayerTime], *, layers: Sequence[str]
) -> dict[str, float] | None:
    """The ms of each layer, or None when some layer is not found among the operators that were timed.

    model: what the engine was built from · layers: as they are called, which is the order of the file
    """
    layer_of_operator = operators_layers(model, layers=layers)
    found: dict[str, float] = {}
    for row in times:
        layer = layer_of_operator(row.name)
        if layer is not None:
            found[layer] = found.get(layer, 0.0) + row.median_ms
    return found if set(found) == set(layers) else None


def operators_layers(model: onnx.ModelProto, *, layers: Sequence[str]) -> Callable[[str], str | None]:
    """Says which layer an operator of the engine belongs to by its name; None: it is no product's.

    model, layers: as above; layers of another number than the products belong to none
    """
    graph = quantized_graph(model)
    products = stored_products(graph)
    pairs = zip(products, layers, strict=True) if len(products) == len(layers) else ()
    layer_of_output = {node.output[0]: layer for node, layer in pairs}
    by_name = {node.name: node for node in graph.nodes}

    def layer_of_operator(operator: str) -> str | None:
        name = ADDED_TO_NAMES.sub("", operator)
        node = by_name.get(name) or graph.maker.get(name)
        while node is not None and node.op_type in JOINED:
            node = graph.maker.get(node.input[0])
        return layer_of_output.get(node.output[0]) if node is not None else None

    return layer_of_operator


def stored_products(graph: QuantizedGraph) -> list[NodeProto]:
    """The products with stored weights, quantized or not, in the order of the file."""
    return [
        node for node in graph.nodes
        if node.op_type in (*PRODUCTS, "ConvTranspose")
        and (node.input[1] in graph.constants or graph.weight(node) is not None)
    ]  # fmt: skip


@torch.no_grad()
def macs_by_layer(student: fx.GraphModule, *, one: Tensor) -> dict[str, float]:
    """The multiply-accumulates of each layer for one input (1, …)."""
    counts = dict.fromkeys(layers_in_order(student), 0.0)
    hooks = [_counting(student.get_submodule(name), name, counts) for name in counts]
    try:
        student(one)
    finally:
        for hook in hooks:
            hook.remove()
    return counts


def _counting(layer: nn.Module, name: str, counts: dict[str, float]) -> Any:
    plain: Any = layer.layer if isinstance(layer, QuantizedWeight) else layer

    def count(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        many = inputs[0] if isinstance(plain, nn.ConvTranspose2d) else output
        counts[name] += many.numel() * plain.weight[0].numel()

    return layer.register_forward_hook(count)
