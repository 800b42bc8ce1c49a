"""Torch to ONNX, in one function.

torch's TorchScript exporter is used: it writes GlobalAveragePool where the newer one writes ReduceMean, which integer
runtimes do not fuse, and needs no further package. It is deprecated: when it
goes, this function changes and nothing else does (decisions/0003).
"""

import io
import logging
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from pipeline.errors import NetworkRefused

OPSET = 17  # read by every TensorRT from 8.6 on and by every ONNX Runtime from 1.14 on


def onnx_from_torch(module: nn.Module, *, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """The network in evaluation mode for a batch of one, checked, with input `input` and output `output`.

    input_shape: of one input, without the batch axis

    Raises:
        NetworkRefused: an operation of the network has no ONNX form.
    """
    written = io.BytesIO()
    module.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    example = torch.zeros(1, *input_shape)
    noisy = logging.getLogger("torch.onnx")
    level, fast = noisy.level, torch.backends.mha.get_fastpath_enabled()
    try:
        noisy.setLevel(logging.ERROR)
        torch.backends.mha.set_fastpath_enabled(False)  # one operator for a whole encoder layer, which ONNX has not
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, (example,), written, dynamo=False, opset_version=OPSET,  # type: ignore[arg-type]
                input_names=["input"], output_names=["output"],
            )  # fmt: skip
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise NetworkRefused(
            f"{type(module).__name__} cannot be exported to ONNX for inputs of shape {input_shape}: {reason}"
        ) from error
    finally:
        noisy.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast)
    model = onnx.load_from_string(written.getvalue())
    whole_numbers_taken(model)
    constants_computed(model)
    constants_unshared(model)
    weights_stored_as_integers(model)
    constants_computed(model)  # where a kernel wants stored integers in another shape
    unread_removed(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def whole_numbers_taken(model: onnx.ModelProto) -> None:
    """Where all that is made of the input is whole numbers of one type, let the file take these, in place.

    A network takes words as float32, as a data set holds them; who asks the file has them as whole numbers.
    """
    graph = model.graph
    (door,) = graph.input
    casts = [node for node in graph.node if door.name in node.input]
    kinds = {node.attribute[0].i for node in casts if node.op_type == "Cast"}
    made = {name for node in casts for name in node.output}
    if {node.op_type for node in casts} != {"Cast"} or len(kinds) > 1 or made & {each.name for each in graph.output}:
        return
    (kind,) = kinds
    if kind not in (TensorProto.INT64, TensorProto.INT32):
        return
    door.type.tensor_type.elem_type = kind
    for node in casts:
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [door.name if name in made else name for name in node.input]


def constants_computed(model: onnx.ModelProto) -> None:
    """Replace what is computed from constants alone by its value, in place; quantizers stay.

    The exporter leaves the widths of a padding as a chain of ten operators, behind which no shape is known.
    """
    graph = model.graph
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    for node in list(graph.node):
        computed = set(node.input) - {""} <= constants.keys() and len(node.output) == 1
        inner = any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute)
        if not computed or inner or node.op_type in ("QuantizeLinear", "DequantizeLinear", "Identity"):
            continue
        feeds = {name: constants[name] for name in node.input if name}
        outputs: Any = ReferenceEvaluator(node, opsets={"": OPSET}).run(None, feeds)
        value = np.asarray(outputs[0])
        constants[node.output[0]] = value
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
        graph.node.remove(node)


def constants_unshared(model: onnx.ModelProto) -> None:
    """Give every reader of a constant a constant of its own, in place.

    The exporter merges equal constants behind Identity nodes; ONNX Runtime's exact mode on x86 refuses shared ones.
    """
    graph = model.graph
    constants = {constant.name: constant for constant in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
            graph.node.remove(node)
    used: set[str] = set()
    del graph.initializer[:]
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name not in constants:
                continue
            own = onnx.TensorProto()
            own.CopyFrom(constants[name])
            own.name = name if name not in used else f"{name}.{len(used)}"
            used.add(own.name)
            node.input[place] = own.name
            graph.initializer.append(own)


def weights_stored_as_integers(model: onnx.ModelProto) -> None:
    """Replace each constant that is quantized in the graph by its integers, in place: a quarter of the size."""
    graph = model.graph
    constants = {constant.name: constant for constant in graph.initializer}
    for node in list(graph.node):
        if node.op_type != "QuantizeLinear" or node.input[0] not in constants:
            continue
        values, scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        if scale.ndim:
            shape = [-1 if other == axis else 1 for other in range(values.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        limits = np.iinfo(zero.dtype)
        integers = np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(zero.dtype)
        graph.initializer.append(numpy_helper.from_array(integers, node.output[0]))
        graph.node.remove(node)
    unread_removed(model)


def unread_removed(model: onnx.ModelProto) -> None:
    """Remove the constants that no node reads, in place."""
    graph = model.graph
    read = {name for node in graph.node for name in node.input}
    for constant in list(graph.initializer):
        if constant.name not in read:
            graph.initializer.remove(constant)
