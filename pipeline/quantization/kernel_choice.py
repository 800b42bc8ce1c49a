"""Which layers of an integer engine are to be computed in float, by the times of their operators.

A layer in float costs more than its own time: what it reads is dequantized for it, what it gives quantized behind it,
and some runtimes turn the layout of a tensor between the two kinds. So the times are taken in an engine in which every
layer has its float kernel on the grid, and each layer is charged with the conversions around it.

What is gained is not quite the sum over the layers: beside an integer layer there is one change of layout more. So sets
of several sizes are proposed, and the stage that builds engines times them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from pipeline.quantization.float_kernels import UNSHIELDED
from pipeline.quantization.layer_prices import operators_layers, stored_products
from pipeline.quantization.quantized_graph import quantized_graph
from targets.runner import LayerTime

BEFORE = ("DequantizeLinear", "ReorderInput")  # ONNX Runtime's conversions on the way into a float layer


@dataclass(frozen=True)
class LayerCost:
    """The ms of one layer by the kernel it has; conversions_ms: around the float one, less those around the other."""

    layer: str
    integer_ms: float
    float_ms: float
    conversions_ms: float

    @property
    def gain_ms(self) -> float:
        """What its float kernel saves."""
        return self.integer_ms - self.float_ms - self.conversions_ms

    @property
    def is_slower(self) -> bool:
        """Whether its integer kernel is the slower one."""
        return self.integer_ms > self.float_ms

    @property
    def why(self) -> str:
        """The reason for the float kernel, in words."""
        return f"its integer kernel is slower here: {self.integer_ms:.3f} ms, and {self.float_ms:.3f} ms in float"


def layer_costs(
    integer: onnx.ModelProto,
    integer_times: Sequence[LayerTime],
    floating: onnx.ModelProto,
    float_times: Sequence[LayerTime],
) -> list[LayerCost]:
    """Of every quantized layer that is found in both engines, in the order of the file.

    integer: the lowered model · floating: the same network with float kernels or without quantizers
    """
    graph = quantized_graph(integer)
    ours, theirs = stored_products(graph), stored_products(quantized_graph(floating))
    if len(ours) != len(theirs):
        return []
    layers = [node.output[0] for node in ours]
    own, around = _spans(operators_layers(integer, layers=layers), integer_times)
    float_own, float_around = _spans(operators_layers(floating, layers=layers), float_times)
    return [
        LayerCost(layer, own[layer], float_own[layer], float_around[layer] - around[layer])
        for layer, node in zip(layers, ours, strict=True)
        if layer in own and layer in float_own and graph.weight(node) is not None
    ]


def layers_of_operators(model: onnx.ModelProto) -> Callable[[str], str | None]:
    """Says by the name of an operator in the engine which layer of a model with float kernels it is; None: no layer."""
    products = stored_products(quantized_graph(model))
    return operators_layers(model, layers=[node.output[0].removesuffix(UNSHIELDED) for node in products])


def sets_by_gain(costs: Sequence[LayerCost], *, most: int) -> list[tuple[LayerCost, ...]]:
    """All layers that gain, then the half of them that gains most, and so on down to one; at most so many sets.

    A layer whose own kernel is no faster in float gains nothing, whatever the clock says of its conversions.
    """
    gaining = sorted((cost for cost in costs if cost.is_slower and cost.gain_ms > 0), key=lambda cost: -cost.gain_ms)
    found: list[tuple[LayerCost, ...]] = []
    size = len(gaining)
    while size and len(found) < most:
        found.append(tuple(gaining[:size]))
        size //= 2
    return found


def _spans(
    layer_of: Callable[[str], str | None], times: Sequence[LayerTime]
) -> tuple[dict[str, float], dict[str, float]]:
    """The ms of each layer, and of the operators around it that are no layer's: those up to the next layer."""
    own: dict[str, float] = {}
    around: dict[str, float] = {}
    before_ms, last = 0.0, None
    for row in times:
        layer = layer_of(row.name)
        if layer is not None:
            own[layer] = own.get(layer, 0.0) + row.median_ms
            around[layer] = around.get(layer, 0.0) + before_ms
            before_ms, last = 0.0, layer
        elif last is None or row.kind in BEFORE:
            before_ms += row.median_ms
        else:
            around[last] += row.median_ms
    return own, around
