"""The calibrated network with some of its layers in float, and the steps that look at its float twin taken anew.

Letters: E error of the answers (sensitivity.py).
"""

import copy
from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor, fx, nn

from calibration.ranges import Ranges
from calibration.samples import Samples
from pipeline.quantization.bias_correction import biases_corrected
from pipeline.quantization.fake_quant import switched_off
from pipeline.quantization.insert import calibrated, point_name, watched
from pipeline.quantization.placement import Placement
from pipeline.quantization.preparation import Prepared, answers_of
from pipeline.quantization.rounding import AdaptiveRounding
from pipeline.quantization.sensitivity import modules_of, quantizers_of
from targets.target import Scheme


def relaxed(
    found: Prepared, module: nn.Module, *, keep_float: Collection[str], scheme: Scheme
) -> tuple[fx.GraphModule, Placement]:
    """The calibrated network with these layers in float: its weights, biases and ranges, under a placement of its own.

    module: the float network that `found` was made from
    """
    graph, placement = watched(module, keep_float=keep_float)
    student, placement = calibrated(graph, placement, ranges=ranges_under(placement, found), scheme=scheme)
    given = found.student.state_dict()
    state = {name: given[name] if name in given else given[_inner(name)] for name in student.state_dict()}
    student.load_state_dict(state, strict=True)
    return student.eval(), placement


def ranges_under(placement: Placement, found: Prepared) -> Ranges:
    """The ranges of the points of another placement; a tensor that shared a quantizer with others keeps its range."""
    ranges, notes = {}, {}
    for producer in placement.activations:
        seen = producer if producer in found.placement.activations else found.placement.repeats[producer]
        name, known = point_name(producer), point_name(seen)
        ranges[name] = found.ranges[known]
        if known in found.ranges.notes:
            notes[name] = found.ranges.notes[known]
    return Ranges(ranges, notes)


def polished(
    student: fx.GraphModule, samples: Samples, *, correct_biases: bool, rounding: AdaptiveRounding | None, seed: int
) -> tuple[fx.GraphModule, tuple[tuple[str, float, bool], ...]]:
    """The network after the steps that look at its float twin, each kept if it lowers the error; and (step, E, kept).

    student: with the weights and biases of its float network
    """
    twin = copy.deepcopy(student)
    steps: list[tuple[str, Callable[[fx.GraphModule], Any]]] = []
    if correct_biases:
        steps.append(("biases corrected", lambda graph: biases_corrected(graph, reference=twin, inputs=samples)))
    if rounding is not None:
        steps.append(("rounding chosen", lambda graph: rounding(graph, reference=twin, inputs=samples, seed=seed)))
        steps += [("biases corrected again", change) for _, change in steps[:-1]]
    tried = []
    with switched_off(modules_of(twin, quantizers_of(twin))):
        expected = answers_of(twin, samples)
        least = _error(answers_of(student, samples), expected)
        for step, change in steps:
            other = copy.deepcopy(student)
            change(other)
            error = _error(answers_of(other.eval(), samples), expected)
            tried.append((step, error, error < least))
            if error < least:
                student, least = other, error
    return student, tuple(tried)


def _inner(name: str) -> str:
    """`features.0.weight` → `features.0.layer.weight`, as a quantized layer keeps it."""
    owner, _, last = name.rpartition(".")
    return f"{owner}.layer.{last}"


def _error(answers: Tensor, expected: Tensor) -> float:
    return float((answers - expected).square().sum()) / max(float((expected - expected.mean(0)).square().sum()), 1e-12)
