"""Where an engine begins to differ from the fake-quantized network: the integer codes of every tensor, side by side.

The tensors are matched by order: torch calls its quantizers in the order in which the exported file writes them. The
lowered file is run by the optimised runtime with those integers as further outputs, so the same kernels compute them
that compute them in the engine.

Letters: N inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from onnx import NodeProto, helper, numpy_helper
from torch import Tensor, nn

from targets.engines.ort import OnnxRuntime
from targets.engines.session import joined
from targets.runner import Engine

NOTABLE = 0.01  # share of codes; roundings at the middle between two codes stay far below


@dataclass(frozen=True)
class Difference:
    """One quantized tensor. share: of its codes that differ · largest: by how many steps at most"""

    tensor: str
    share: float
    largest: int


def differences(
    student: nn.Module,
    *,
    is_point: Callable[[nn.Module], bool],
    canonical: onnx.ModelProto,
    lowered: onnx.ModelProto,
    inputs: np.ndarray,
) -> list[Difference]:
    """Every quantized activation in the order of computation; tensors that the lowering removed are passed over.

    student: as it was exported · is_point: whether a module of it is a quantizer of an activation
    inputs: (N, …), as the network takes them
    """
    seen = values_at(student, is_point, inputs)
    points = points_of(canonical)
    if len(points) != len(seen):
        raise ValueError(f"{len(points)} quantizers in the file and {len(seen)} calls in torch: they cannot be matched")
    written = {name for node in lowered.graph.node for name in node.output}
    kept = [(node, value) for node, value in zip(points, seen, strict=True) if node.output[0] in written]
    codes, _ = codes_of(lowered, [node.output[0] for node, _ in kept], inputs)
    grid: dict[str, tuple[float, int]] = {}
    for each in lowered.graph.node:
        if each.op_type == "QuantizeLinear":
            grid[each.output[0]] = _grid(each, lowered)
        elif each.op_type in ("Reshape", "Clip") and each.input[0] in grid:  # codes that a lowering moves or cuts
            grid[each.output[0]] = grid[each.input[0]]
    rows = []
    for node, value in kept:
        scale, zero = grid.get(node.output[0]) or _grid(node, canonical)
        steps = np.abs(codes[node.output[0]].astype(np.int64) - zero - np.rint(value / scale).astype(np.int64))
        rows.append(Difference(node.name or node.output[0], float((steps > 0).mean()), int(steps.max(initial=0))))
    return rows


def first_notable(rows: list[Difference]) -> Difference | None:
    """The first tensor of which more than a hundredth of the codes differ, else the one that differs most."""
    differing = [row for row in rows if row.share > 0]
    if not differing:
        return None
    return next((row for row in differing if row.share > NOTABLE), max(differing, key=lambda row: row.share))


def values_at(student: nn.Module, is_point: Callable[[nn.Module], bool], inputs: np.ndarray) -> list[np.ndarray]:
    """What each quantizer of the torch network gives, in the order in which they are called.

    The inputs are asked one at a time and what they give is laid along axis 0: (N, …), or (N·A, …) where the batch
    stands elsewhere and axis 0 has a length A of its own, as between the two transposes of a channel shuffle.
    """
    each = [_values_at_one(student, is_point, inputs[place : place + 1]) for place in range(len(inputs))]
    return [np.concatenate(parts) for parts in zip(*each, strict=True)]


def _values_at_one(student: nn.Module, is_point: Callable[[nn.Module], bool], inputs: np.ndarray) -> list[np.ndarray]:
    values: list[np.ndarray] = []

    def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        values.append(output.detach().numpy().copy())  # an activation behind it may work in place

    handles = [module.register_forward_hook(note) for module in student.modules() if is_point(module)]
    try:
        with torch.inference_mode():
            student.eval()(torch.from_numpy(inputs))
    finally:
        for handle in handles:
            handle.remove()
    return values


def points_of(model: onnx.ModelProto) -> list[NodeProto]:
    """The quantizers of activations in a file, in the order in which torch calls them."""
    constants = {constant.name for constant in model.graph.initializer}
    return [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in constants]


def _grid(node: NodeProto, model: onnx.ModelProto) -> tuple[float, int]:
    constants = {constant.name: constant for constant in model.graph.initializer}
    scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
    return float(scale), int(zero)


def codes_of(
    lowered: onnx.ModelProto, names: list[str], inputs: np.ndarray, *, engine: Engine | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The integers of the named tensors, (N, …) each, from the optimised runtime, and the answers beside them.

    engine: the runtime; None for ONNX Runtime
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(lowered)
    answers = [each.name for each in watched.graph.output]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in answers)
    stated = [each.name for each in watched.graph.output]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "watched.onnx"
        onnx.save(watched, path)
        values = dict(zip(stated, (engine or OnnxRuntime()).outputs_of(path, inputs), strict=True))
    told = [joined([values[name][place : place + 1] for name in answers]) for place in range(len(inputs))]
    return {name: values[name] for name in names}, np.concatenate(told)
