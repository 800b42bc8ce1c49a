"""Where an engine on a device's GPU starts to answer otherwise than its file: the first quantizer that shows it.

The device builds the file once more with what every quantizer gives as a further output, taken behind its
DequantizeLinear, which a builder may write out without another kernel for the layer. The same file is run here as it is
written; the two are compared in steps of each quantizer.

Letters: N inputs.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper, shape_inference

from pipeline.graph.first_difference import NOTABLE
from targets.engines.unbuilt import Unbuilt
from targets.errors import TargetsError
from targets.runner import Engine

STEP = 0.5  # of the grid: what is nearer is the same code in another precision


@dataclass(frozen=True)
class Parted:
    """name: of the quantizer · share: of its codes that differ · steps: by how many at most"""

    name: str
    share: float
    steps: float


def parted_in_words(lowered: Path, inputs: np.ndarray, engine: Engine) -> str:
    """ ", first in …" with the first quantizer that shows a difference; "" where none does, or the device cannot say.

    inputs: (N, …), as the network takes them
    """
    try:
        found = first_parted(lowered, inputs, engine)
    except TargetsError:  # a builder need not take a file with so many outputs
        return ""
    if found is None:
        return ""
    share = f"{100 * found.share:.1f} % of the codes differ from the same file's here, by up to {found.steps:.0f}"
    return f", first in {found.name}, where {share}"


def first_parted(lowered: Path, inputs: np.ndarray, engine: Engine) -> Parted | None:
    """The first quantizer of which more than a hundredth of the codes differ, else the one that differs most."""
    model = onnx.load(lowered)
    seen = watched_points(model)
    if not seen:
        return None
    with TemporaryDirectory() as folder:
        path = Path(folder) / "watched.onnx"
        onnx.save(_with_outputs(model, [node.output[0] for node, _ in seen]), path)
        stated = [each.name for each in onnx.load(path).graph.output]
        there = dict(zip(stated, engine.outputs_of(path, inputs), strict=True))
        here = dict(zip(stated, Unbuilt("here", "").outputs_of(path, inputs), strict=True))
    rows = []
    for node, scale in seen:
        name = node.output[0]
        if name not in there:  # its shape is not known before the network runs
            continue
        apart = np.abs(there[name].astype(np.float64) - here[name].astype(np.float64)).ravel() / scale
        rows.append(Parted(node.name or name, float((apart > STEP).mean()), float(np.rint(apart.max(initial=0)))))
    differing = [row for row in rows if row.share > 0]
    if not differing:
        return None
    return next((row for row in differing if row.share > NOTABLE), max(differing, key=lambda row: row.share))


def watched_points(model: onnx.ModelProto) -> list[tuple[NodeProto, float]]:
    """Every DequantizeLinear behind a quantizer of an activation, in the order of the file, and its scale."""
    constants = {each.name: each for each in model.graph.initializer}
    found, makers = [], set[str]()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] not in constants and node.input[0] not in makers:
            makers.add(node.input[0])  # one of several behind the same quantizer
            scale = numpy_helper.to_array(constants[node.input[1]])
            if scale.size == 1:
                found.append((node, float(scale.ravel()[0])))
    return found


def _with_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """A copy that states these tensors as outputs too, with type and shape: a parser asks for both."""
    watched = shape_inference.infer_shapes(model)
    known = {each.name: each for each in watched.graph.value_info}
    there = {each.name for each in watched.graph.output}
    kinds = {name: known[name].type.tensor_type.elem_type for name in names if name in known}
    watched.graph.output.extend(
        known[name] for name in names if name not in there and kinds.get(name, TensorProto.UNDEFINED)
    )
    return watched
