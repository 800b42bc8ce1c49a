"""What an ONNX file takes, read without running it."""

from pathlib import Path

import onnx

from pipeline.errors import DataMissing, NetworkRefused


def input_shape_of(model: Path) -> tuple[int, ...]:
    """The shape of one input of an ONNX file, without the batch axis.

    Raises:
        DataMissing: there is no such file · NetworkRefused: it is no ONNX file, or has not one input of known shape.
    """
    if not model.is_file():
        raise DataMissing(f"there is no file {model}.")
    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception as error:  # protobuf has an error of its own in each of its implementations
        raise NetworkRefused(f"{model} is no ONNX file, or it is cut short. Export or copy it again.") from error
    constants = {constant.name for constant in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        raise NetworkRefused(f"{model} has {len(inputs)} inputs ({names}); networks with exactly one are supported.")
    lengths = [axis.dim_value for axis in inputs[0].type.tensor_type.shape.dim]
    if len(lengths) < 2 or min(lengths[1:]) < 1:
        raise NetworkRefused(
            f"the input '{inputs[0].name}' of {model} has the shape {lengths} (0: not fixed); all but the batch axis "
            "must be fixed. Export the model with a fixed input size."
        )
    return tuple(lengths[1:])
