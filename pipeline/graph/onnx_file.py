"""Read an ONNX file that may come from anywhere: nothing in it is run, and no file outside its folder is opened.

Weights kept beside the model ("external data") are read from the model's own folder alone; a location that leads out
of it, also through a link, is refused. Half precision becomes single precision when a constant is used.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto, inliner

from pipeline.errors import NetworkRefused

OLDEST, NEWEST = 9, 20  # of the operator set, as the importer knows the operators
STANDARD = ("", "ai.onnx")


def model_from_file(path: Path) -> onnx.ModelProto:
    """The checked model with all its weights, and with the functions that it defines itself written out.

    Raises:
        NetworkRefused: the file is missing or no ONNX model, or its operator set or its weights cannot be used.
    """
    if not path.is_file():
        raise NetworkRefused(f"there is no file {path}. Name the ONNX file of the network.")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise NetworkRefused(f"{path} cannot be read ({error.strerror}). Make it readable for this user.") from error
    except Exception as error:  # protobuf's own error, whose place differs between protobuf versions
        raise NetworkRefused(
            f"{path} is no ONNX file, or it is cut short. Name the .onnx file that the exporter wrote, or "
            "copy it again."
        ) from error
    if not model.graph.node or not model.opset_import:
        raise NetworkRefused(
            f"{path} holds no ONNX network: it is empty, or of another kind. Name the .onnx file that the exporter "
            "wrote."
        )
    opset = opset_of(model)
    if not OLDEST <= opset <= NEWEST:
        raise NetworkRefused(
            f"{path} uses ONNX operator set {opset}; {OLDEST} to {NEWEST} are read. Export it with opset_version=17."
        )
    if model.graph.sparse_initializer:
        raise NetworkRefused(f"{path} stores sparse weights, which are not read. Export it with dense ones.")
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            _read_beside(tensor, path)
    for value in model.graph.output:
        value.type.tensor_type.shape.SetInParent()  # not read here, and the checker wants one
    try:
        onnx.checker.check_model(model)
        if model.functions:
            model = inliner.inline_local_functions(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NetworkRefused(f"{path} is not a valid ONNX model ({reason}). Export it again.") from error
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operator set that the model asks for, 0 when it asks for none."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in STANDARD), 0)


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    nodes = list(model.graph.node) + [node for function in model.functions for node in function.node]
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def _read_beside(tensor: TensorProto, path: Path) -> None:
    """Put the bytes that `tensor` refers to into the tensor."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, folder = entries.get("location", ""), path.parent.resolve()
    try:
        file = (folder / location).resolve()
        inside = bool(location) and not Path(location).is_absolute() and file.is_relative_to(folder)
        start, length = int(entries.get("offset", "0")), int(entries.get("length", "-1"))
    except (ValueError, OSError, RuntimeError) as error:
        raise NetworkRefused(
            f"{path}: where the weights {tensor.name!r} lie is unreadable. Export it again."
        ) from error
    if not inside:
        raise NetworkRefused(
            f"{path} keeps the weights {tensor.name!r} at {location!r}, outside its own folder, and no such file is "
            "opened. Put the file of weights beside the model and save the model with that location."
        )
    if not file.is_file():
        raise NetworkRefused(
            f"{path} keeps the weights {tensor.name!r} in the file {location!r}, which is missing. "
            f"Put it beside {path.name}."
        )
    size = file.stat().st_size
    length = size - start if length < 0 else length
    if start < 0 or start + length > size:
        raise NetworkRefused(
            f"{file} is too short: the weights {tensor.name!r} of {path.name} should end at byte {start + length}, and "
            f"the file has {size}. Copy it again."
        )
    with file.open("rb") as opened:
        opened.seek(start)
        tensor.raw_data = opened.read(length)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
