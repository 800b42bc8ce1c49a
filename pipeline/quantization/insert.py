"""Put quantizers into a network: first as places to watch, then as quantizers with the ranges that were seen."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import fx, nn

from calibration.ranges import Ranges
from calibration.scale import affine_codes, symmetric_amax
from pipeline.candidate import Architecture
from pipeline.graph.trace import set_layer, traced
from pipeline.quantization.fake_quant import QuantizedWeight, activation_quantizer, affine_quantizer
from pipeline.quantization.fold import batch_norm_folded
from pipeline.quantization.placement import Placement, placement_on
from pipeline.quantization.pool_means import means_pooled
from pipeline.quantization.recurrent_weights import multiplies_integers, quantized_recurrent, why_float
from targets.target import Scheme

FOLDER = "quantizers"


def point_name(producer: str) -> str:
    """The sub-module that quantizes the output of the node `producer`."""
    return f"{FOLDER}.{producer}"


def watched(
    module: nn.Module, placement: Placement | None = None, *, keep_float: Collection[str] = ()
) -> tuple[fx.GraphModule, Placement]:
    """A traced, folded copy of `module` in which an identity layer stands wherever a quantizer will.

    keep_float: layers that stay float, unless `placement` says it all
    """
    graph = means_pooled(batch_norm_folded(traced(module)))
    placement = placement or placement_on(graph, keep_float=keep_float)
    graph.add_module(FOLDER, nn.Module())
    for node in list(graph.graph.nodes):
        producer = node.name if node.name in placement.activations else placement.repeats.get(node.name)
        if producer is None:
            continue
        name = point_name(producer)
        if not hasattr(graph.get_submodule(FOLDER), producer):
            graph.get_submodule(FOLDER).add_module(producer, nn.Identity())
        with graph.graph.inserting_after(node):
            point = graph.graph.call_module(name, (node,))
        node.replace_all_uses_with(point, delete_user_cb=lambda user, point=point: user is not point)
    graph.graph.lint()
    graph.recompile()
    return graph, placement


def calibrated(
    graph: fx.GraphModule, placement: Placement, *, ranges: Ranges, scheme: Scheme
) -> tuple[fx.GraphModule, Placement]:
    """The watched graph, in place, with quantizers for the ranges that its points have seen, and where it has which.

    Where the scheme takes zero points, every tensor that may be negative gets one.
    """
    spans = {producer: ranges[point_name(producer)] for producer in placement.activations}
    affine = [each for each, positive in placement.activations.items() if scheme.affine_activations and not positive]
    codes = {producer: affine_codes(spans[producer]) for producer in affine}
    amax = {producer: symmetric_amax(span) for producer, span in spans.items()}
    amax |= {producer: 255 * each.scale for producer, each in codes.items()}
    zeros = {producer: each.zero for producer, each in codes.items()}
    layers = {name: graph.get_submodule(name) for name in placement.recurrent}
    by_weight = {name: why_float(layer) for name, layer in layers.items() if not multiplies_integers(layer, scheme)}
    placement = replace(placement, affine=tuple(affine), kept_float=placement.kept_float | by_weight)
    return quantized(graph, placement, amax=amax, zeros=zeros, scheme=scheme), placement


def quantized(
    graph: fx.GraphModule,
    placement: Placement,
    *,
    amax: Mapping[str, float],
    scheme: Scheme,
    zeros: Mapping[str, int] | None = None,
) -> fx.GraphModule:
    """The watched graph, in place, with weight quantizers, and fake quantizers of the given ranges by producer.

    amax: the largest magnitude; of an affine quantizer 255 steps · zeros: zero points of the affine ones, else 0
    """
    for producer, positive in placement.activations.items():
        if producer in placement.affine:
            quantizer = affine_quantizer(span=amax[producer], zero=(zeros or {}).get(producer, 0))
        else:
            unsigned = positive and scheme.unsigned_activations
            quantizer = activation_quantizer(amax=amax[producer], unsigned=unsigned)
        set_layer(graph, point_name(producer), quantizer)
    for name in placement.weights:
        layer = graph.get_submodule(name)
        set_layer(
            graph, name,
            QuantizedWeight(layer, bits=scheme.weight_bits, sums_in_16_bits=scheme.sums_in_16_bits),
        )  # fmt: skip
    for name in placement.recurrent:
        set_layer(graph, name, quantized_recurrent(graph.get_submodule(name), scheme))
    return graph


def empty_quantized(architecture: Architecture, *, scheme: Scheme, placement: Mapping[str, Any]) -> nn.Module:
    """The network a quantized candidate's weights are loaded into; its ranges are placeholders until then."""
    known = Placement(
        activations=dict(placement["activations"]), repeats=dict(placement["repeats"]),
        weights=tuple(placement["weights"]), kept_float=dict(placement["kept_float"]),
        affine=tuple(placement.get("affine", ())), recurrent=tuple(placement.get("recurrent", ())),
    )  # fmt: skip
    graph, _ = watched(architecture(), known)
    return quantized(graph, known, amax=dict.fromkeys(known.activations, 1.0), scheme=scheme)


def quantized_architecture(architecture: Architecture, *, scheme: Scheme, placement: Mapping[str, Any]) -> Architecture:
    """`empty_quantized` with its arguments bound."""
    return partial(empty_quantized, architecture, scheme=scheme, placement=placement)
