"""Is an engine that answers otherwise than the torch network right all the same? Its integers, computed a second time.

A deep network with coarse steps amplifies roundings: a value on the edge between two codes falls to one side in
float32 and to the other in integers, and every later layer makes more of it (decision 0016). So the two are compared
over a bridge that has no such noise:

    torch   each layer on its own, on the codes that torch gave it: the same codes, but for values on an edge
      =     the integer reference of the exported file (integer_reference.py)
    engine  the whole network: the answers of the integer reference of the lowered file, but for the float layers' sums

An engine with float kernels between its quantizers rounds as torch does, and OpenVINO in a way of its own, so their
answers are no one else's. Their layers are compared as those of torch are: each gives, for the codes that the engine
itself gave it, the reference's codes. The runtime is given the file with these codes as further outputs, which must
lead it to the engine's answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto
from torch import nn

from pipeline.data.onnx_door import asked
from pipeline.graph.first_difference import NOTABLE, codes_of, points_of, values_at
from pipeline.quantization.fake_quant import exportable, is_activation_point
from pipeline.quantization.integer_operators import centred
from pipeline.quantization.integer_reference import integers_of
from pipeline.quantization.quantized_graph import QuantizedGraph, name_of, quantized_graph
from targets.engines.session import joined
from targets.runner import Engine

LAYERWISE = 4  # inputs on which every layer is compared
MOST_UNLIKE = 256  # answers that are recomputed; an engine with more of them is wrong
CLOSE = 1e-3  # of the size of the answers: what float layers at the end may add up differently


@dataclass(frozen=True)
class Bridge:
    """A quantized torch network and the files it became. student: as it was loaded; it is exported in place"""

    student: nn.Module
    canonical: Path
    lowered: Path

    def layer_that_differs(self, inputs: np.ndarray) -> str:
        """The first layer that gives other codes in integers than in torch for the same codes; "" if none does.

        inputs: (N, …), as the network takes them
        """
        model = onnx.load(self.canonical)
        graph, points = quantized_graph(model), points_of(model)
        student = exportable(self.student)
        for place in range(len(inputs)):
            seen = values_at(student, is_activation_point, inputs[place : place + 1])
            if len(points) != len(seen):
                return f"{len(seen)} quantizers in torch and {len(points)} in {self.canonical.name}"
            one = {}
            for node, value in zip(points, seen, strict=True):
                pair = graph.pair(node)
                steps = np.rint(value / pair.spread(pair.scale, value.ndim)) + pair.spread(pair.zero, value.ndim)
                one[node.output[0]] = steps.astype(pair.zero.dtype)
            computed = integers_of(model, asked(model, inputs[place : place + 1]), instead=one)
            if told := _first_that_differs(points, graph, computed, one):
                return told
        return ""

    def answers_like(self, inputs: np.ndarray, answers: np.ndarray) -> bool:
        """Whether the engine's answers are those of the integer reference, in one of the two ways to round a sum.

        inputs: (N, …) · answers: of the engine to each of them (N, …)
        """
        model = onnx.load(self.lowered)
        exits = [each.name for each in model.graph.output]
        ways = [True, False]  # of the AVX2 kernels first
        for place, answer in enumerate(answers):
            feeds = asked(model, inputs[place : place + 1])
            found = [(way, integers_of(model, feeds, as_avx2=way)) for way in ways]
            ways = [way for way, values in found if _close(joined([values[name] for name in exits]), answer)]
            if not ways:
                return False
        return True

    def layers_like(self, inputs: np.ndarray, answers: np.ndarray, *, built_from: Path, engine: Engine) -> bool:
        """Whether every layer of an engine gives the codes of the integer reference for the codes that it was given.

        inputs: (N, …) · answers: of the engine to each of them (N, …), which its layers must lead to
        built_from: the lowered file, or that with some layers in float kernels · engine: the runtime
        """
        model, mixed = onnx.load(self.lowered), onnx.load(built_from)
        written = {name for node in mixed.graph.node for name in node.output}
        graph, points = quantized_graph(model), [node for node in points_of(model) if node.output[0] in written]
        for place, answer in enumerate(answers):
            one = inputs[place : place + 1]
            codes, told = codes_of(mixed, [node.output[0] for node in points], one, engine=engine)
            computed = integers_of(model, asked(model, one), instead=codes, as_avx2=True)
            if not _close(told, answer) or _first_that_differs(points, graph, computed, codes):
                return False
        return True


def _first_that_differs(
    points: Sequence[NodeProto],
    graph: QuantizedGraph,
    computed: Mapping[str, np.ndarray],
    seen: Mapping[str, np.ndarray],
) -> str:
    """The first quantizer that gives other codes than were seen, values on the edge between two apart; "" if none."""
    for node in points:
        pair, name = graph.pair(node), node.output[0]
        apart = np.abs(centred(computed[name], pair) - centred(seen[name], pair))
        if (apart > 0).mean() > NOTABLE or apart.max(initial=0) > 1:
            share = 100 * float((apart > 0).mean())
            return f"{name_of(node)}: {share:.1f} % of the codes differ, by up to {int(apart.max())}"
    return ""


def _close(expected: np.ndarray, answer: np.ndarray) -> bool:
    size = float(np.sqrt(np.square(expected).mean()))
    return bool(np.abs(expected.ravel() - answer.ravel()).max() <= CLOSE * size)
