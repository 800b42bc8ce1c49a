"""ONNX to torch: a trained network that is given as an ONNX file becomes one that can be traced, trained and quantized.

The opposite of onnx_from_torch.py. The result is made of torch's own layers and functions, so that folding and
placement of quantizers know them; the batch axis is free whatever batch size the file has. It takes float32, as a data
set holds it: a file that takes whole numbers becomes a network that first makes whole numbers of what it is given.

Operators by the ONNX reference (onnx.ai/onnx/operators), operator sets 9 to 20.
"""

import copy
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import torch
from onnx import TensorProto
from torch import fx

from pipeline.data.onnx_door import WHOLE, kind_of, rows_read
from pipeline.errors import NetworkRefused, nearest
from pipeline.graph.foreign_operator import foreign, is_known_here
from pipeline.graph.network_builder import NetworkBuilder
from pipeline.graph.onnx_conditions import CONDITIONS
from pipeline.graph.onnx_constants import COMPUTED, SHAPES, computed, shape_answer
from pipeline.graph.onnx_file import model_from_file, opset_of
from pipeline.graph.onnx_layers import (
    batch_normalisation,
    convolution,
    gemm,
    layer_normalisation,
    matrix_product,
    transposed_convolution,
)
from pipeline.graph.onnx_moves import (
    concat,
    cut,
    expand,
    flatten,
    gather,
    pad,
    reshape,
    split,
    squeeze,
    transpose,
    unsqueeze,
)
from pipeline.graph.onnx_node import OnnxNode, constant_from_tensor, node_from_onnx
from pipeline.graph.onnx_pieces import product_or_gelu, sum_or_norm
from pipeline.graph.onnx_pointwise import POINTWISE
from pipeline.graph.onnx_pools import (
    average_pool,
    global_average,
    global_maximum,
    max_pool,
    mean_over_axes,
    sum_over_axes,
)
from pipeline.graph.onnx_recurrent import has_torch_form, recurrent
from pipeline.graph.onnx_resize import resize
from pipeline.graph.separate_outputs import JoinedOutputs

OPERATORS: dict[str, Callable[[NetworkBuilder, OnnxNode], fx.Node | list[fx.Node]]] = {
    **POINTWISE,
    **CONDITIONS,
    "Add": sum_or_norm,
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalisation,
    "Concat": concat,
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Gemm": gemm,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_maximum,
    "LayerNormalization": layer_normalisation,
    "MatMul": matrix_product,
    "MaxPool": max_pool,
    "Mul": product_or_gelu,
    "Pad": pad,
    "ReduceMean": mean_over_axes,
    "ReduceSum": sum_over_axes,
    "Reshape": reshape,
    "Resize": resize,
    "Slice": cut,
    "Split": split,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": resize,
}
JOINT = "joined_outputs"  # the name of the layer that joins several outputs
CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


def module_from_onnx(path: Path, *, outputs: tuple[str, ...] = ()) -> fx.GraphModule:
    """The network of an ONNX file in evaluation mode, with trainable float32 weights.

    outputs: which of the file's outputs are kept, in this order; left out, all of them. One is answered as it is,
    several as one tensor (N, K) (separate_outputs.py).

    Raises:
        NetworkRefused: the file cannot be read, or holds something that has no torch form; the message names it.
    """
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return copy.deepcopy(_network(path, outputs, stamp))


@functools.lru_cache(maxsize=1)  # a run asks for its network a dozen times, and to build it takes a second
def _network(path: Path, outputs: tuple[str, ...], _stamp: int) -> fx.GraphModule:
    model = model_from_file(path)
    kept = _outputs(model, outputs, path=path)
    source = _input(model, path=path)
    steps = _steps(model, kept)
    _refuse_unsupported([read for _, read in steps], model, path=path)
    builder = NetworkBuilder()
    builder.constants.update({constant.name: constant_from_tensor(constant) for constant in model.graph.initializer})
    for _, read in steps:
        builder.makers.update(dict.fromkeys(read.outputs, read))
        for name in read.inputs:
            builder.readers.setdefault(name, []).append(read)
    for name in kept:
        builder.readers.setdefault(name, []).append(OnnxNode("", "", "", (name,), (), {}, 0))
    with torch.no_grad():
        below = rows_read(model.graph, source.name)
        builder.placeholder(source.name, shape=_shape(source, path=path), kind=kind_of(source), below=below)
        for node, read in steps:
            try:
                _add(builder, node, read)
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
                raise read.refused(f"is not as the operator must be ({error}). Check it with onnx.checker.") from error
    for name in kept:
        if name not in builder.tensors:
            raise NetworkRefused(f"{path}: the output {name!r} is constant, whatever the input. Name another output.")
        if builder.batch_axis(builder.tensors[name]) != 0:
            raise NetworkRefused(
                f"{path}: the output {name!r} does not begin with the axis of the batch. Export it so."
            )
    answers = [builder.tensors[name] for name in kept]
    if len(answers) > 1:
        builder.root.add_module(JOINT, JoinedOutputs(kept))
        answers = [builder.graph.call_module(JOINT, tuple(answers))]
    builder.graph.output(answers[0])
    network = fx.GraphModule(builder.root, builder.graph, class_name="OnnxNetwork")
    network.graph.eliminate_dead_code()
    network.graph.lint()
    network.recompile()
    network.delete_all_unused_submodules()
    if not any(builder.tensors[name] in builder.ahead for name in kept):
        _refuse_places_in_the_batch(network.eval(), builder, path=path)
    return network.eval()


def _refuse_places_in_the_batch(network: fx.GraphModule, builder: NetworkBuilder, *, path: Path) -> None:
    """Refuse a network that answers the last inputs of a batch otherwise than alone; of the first, each call was."""
    inputs, count = next(iter(builder.long.values())), builder.batch_size()
    with torch.no_grad():
        alone = network(inputs[-count:]).double()
        among = network(inputs)[-len(alone) :].double()
    finite = alone[torch.isfinite(alone)]
    room = 1e-3 * float(finite.abs().max()) if finite.numel() else 0.0  # as for each call (network_builder.py)
    if not torch.allclose(among, alone, rtol=0, atol=room, equal_nan=True):
        raise NetworkRefused(
            f"{path} answers an input by its place in the batch: an operator reaches from one input to another. Export "
            "the network with a free batch axis, and leave what joins inputs out of it."
        )


def _add(builder: NetworkBuilder, node: onnx.NodeProto, read: OnnxNode) -> None:
    """Compute one operator of the file, or build the calls that will."""
    if all(name in builder.tensors for name in read.outputs):
        return  # a bias that its matrix product has taken
    if read.operator in SHAPES and read.inputs[0] in builder.tensors:
        builder.constants[read.outputs[0]] = shape_answer(read, builder.shape(builder.tensors[read.inputs[0]]))
        return
    if all(name in builder.constants for name in read.inputs if name):
        if read.operator in SHAPES:
            builder.constants[read.outputs[0]] = shape_answer(read, builder.constants[read.inputs[0]].shape)
        else:
            builder.constants.update(computed(node, read, builder.constants))
        return
    several = _made(builder, node, read)
    for place, name in enumerate(read.outputs):
        answer = several[place] if place < len(several) else None
        if answer is not None:
            builder.tensors[name] = answer
        elif name and builder.readers.get(name):
            raise read.refused(f"is asked for its output number {place + 1}, which is not supported.")


def _made(builder: NetworkBuilder, node: onnx.NodeProto, read: OnnxNode) -> Sequence[fx.Node | None]:
    """The calls that give the outputs of one operator; None for an output that nobody reads."""
    if has_torch_form(builder, read):
        return recurrent(builder, read)
    made = OPERATORS[read.operator](builder, read) if read.operator in OPERATORS else foreign(builder, node, read)
    return made if isinstance(made, list) else [made]


def _steps(model: onnx.ModelProto, kept: tuple[str, ...]) -> list[tuple[onnx.NodeProto, OnnxNode]]:
    """The operators that the kept outputs need, in order."""
    opset, needed, steps = opset_of(model), set(kept), []
    for number, node in reversed(list(enumerate(model.graph.node))):
        if needed & set(node.output):
            needed |= set(node.input)
            steps.append((node, node_from_onnx(node, opset=opset, number=number)))
    return steps[::-1]


def _outputs(model: onnx.ModelProto, wanted: tuple[str, ...], *, path: Path) -> tuple[str, ...]:
    names = [output.name for output in model.graph.output]
    for name in wanted:
        if name not in names:
            raise NetworkRefused(f"{path}: {nearest(name, names, kind='output')}")
    return wanted or tuple(names)


def _input(model: onnx.ModelProto, *, path: Path) -> onnx.ValueInfoProto:
    constants = {constant.name for constant in model.graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise NetworkRefused(f"{path} has {len(inputs)} inputs ({names}); one is supported. Export it with one input.")
    kind = inputs[0].type.tensor_type.elem_type
    if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16, *WHOLE):
        known = TensorProto.DataType.Name(kind).lower()
        raise NetworkRefused(
            f"{path}: the input {inputs[0].name!r} is of type {known}; float, int64 and int32 are supported. Export "
            "the network with one of these, or without what comes before its first floating point tensor."
        )
    return inputs[0]


def _shape(source: onnx.ValueInfoProto, *, path: Path) -> tuple[int, ...]:
    """The input's shape; a batch size that is left free counts as 1."""
    axes = source.type.tensor_type.shape.dim
    if len(axes) < 2:
        raise NetworkRefused(f"{path}: the input {source.name!r} has no batch axis. Export the network with one.")
    for place, axis in enumerate(axes):
        if place and axis.dim_value < 1:
            named = repr(axis.dim_param) if axis.dim_param else "without a name"
            raise NetworkRefused(
                f"{path}: axis {place} of the input {source.name!r} is dynamic ({named}); only the batch axis may be. "
                "Fix it: python -m onnxruntime.tools.make_dynamic_shape_fixed."
            )
    return (max(axes[0].dim_value, 1), *(axis.dim_value for axis in axes[1:]))


def _refuse_unsupported(steps: list[OnnxNode], model: onnx.ModelProto, *, path: Path) -> None:
    """Name everything that has no torch form at once."""
    constant = {each.name for each in model.graph.initializer}
    unknown: list[OnnxNode] = []
    for node in steps:
        if node.operator in CONTROL_FLOW:
            raise node.refused("is control flow, which is not supported. Export the network for one fixed path.")
        if node.operator.split(".")[-1] in QUANTIZED or node.operator.split(".")[-1].startswith("QLinear"):
            raise node.refused(f"quantizes, so {path.name} is quantized already. Give the float network it came from.")
        known = node.operator in COMPUTED and all(name in constant for name in node.inputs if name)
        if known or node.operator in SHAPES:
            constant |= set(node.outputs)
        elif node.operator not in OPERATORS and not is_known_here(node):
            unknown.append(node)
    if not unknown:
        return
    counts = Counter(node.operator for node in unknown)
    listed = ", ".join(f"{name} ({count}×)" for name, count in sorted(counts.items()))
    raise NetworkRefused(
        f"{path} uses operators that are not supported: {listed}; the first is the {unknown[0].shown}. Export the "
        "network without them, or give it as a torch network."
    )
