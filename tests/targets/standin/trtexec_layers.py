"""The layers that the stand-in for `trtexec` says an engine has: read from the ONNX, named as TensorRT names them.

A Conv or Gemm is a layer together with the Relu behind it and the Q/DQ of its weight; it runs in INT8 if the network
says so with Q/DQ in front of it. What is fused beyond that, and how fast it is, only a device knows.
"""

from typing import Any

HEAVY = {"Conv": "CaskConvolution", "ConvTranspose": "CaskDeconvolution", "Gemm": "gemm", "MatMul": "gemm"}
PAIR = ("QuantizeLinear", "DequantizeLinear")
SHORT = {"int8": "Int8", "fp16": "Half", "fp32": "Float"}
LONG = {
    "int8": "Thirty-two wide channel vectorized row major Int8 format",
    "fp16": "Sixteen wide channel vectorized row major FP16 format",
    "fp32": "Row major linear FP32",
}
# ONNX's number of a type → (NumPy's name, trtexec's name)
KINDS = {
    1: ("float32", "fp32"),
    10: ("float16", "fp16"),
    3: ("int8", "int8"),
    6: ("int32", "int32"),
    7: ("int64", "int64"),
}
KINDS[9] = ("bool", "bool")


def shapes_of(content: bytes) -> tuple[list[dict[str, Any]], ...]:
    """Inputs and outputs: [{"name", "dtype", "kind", "shape", "bytes"}]."""
    import numpy as np
    import onnx

    # TensorRT works out the shapes of outputs itself, whatever the file states
    model = parsed_onnx(content)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model).graph
    constants = {each.name for each in graph.initializer}
    return tuple(
        [described(value, np) for value in values if value.name not in constants]
        for values in (graph.input, graph.output)
    )


def described(value: Any, np: Any) -> dict[str, Any]:
    """One input or output."""
    tensor = value.type.tensor_type
    if tensor.elem_type not in KINDS:
        raise ValueError(f"{value.name} has a type that is not supported")
    shape = [each.dim_value for each in tensor.shape.dim]
    if 0 in shape:
        raise ValueError(f"the stand-in takes static shapes alone; {value.name} has {shape}")
    dtype, kind = KINDS[tensor.elem_type]
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return {"name": value.name, "dtype": dtype, "kind": kind, "shape": shape, "bytes": size}


def parsed_onnx(content: bytes) -> Any:
    """The model, checked; ValueError where TensorRT's parser would fail as well."""
    import onnx

    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except Exception as error:
        raise ValueError("{}: {}".format(type(error).__name__, str(error).split("\n")[0])) from error
    return model


def layer_table(content: bytes, *, modes: set[str], typed: bool, version: tuple[int, ...]) -> list[dict[str, Any]]:
    """[{"Name", "LayerType", …, "heavy", "asked", "runs"}]; the capital keys are those of trtexec."""
    graph = parsed_onnx(content).graph
    makers = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    refuse_illegal(graph)
    layers: list[dict[str, Any]] = []
    done: set[str] = set()
    halves = any(each.data_type == 10 for each in graph.initializer)
    floats = "fp16" if (halves if typed else "fp16" in modes) else "fp32"
    for node in graph.node:
        if node.op_type in (*PAIR, "Constant", "Identity") or node.name in done:
            continue
        heavy = node.op_type in HEAVY
        quantized = [makers[name] for name in node.input if name in makers and makers[name].op_type == PAIR[1]]
        asked = "int8" if heavy and len(quantized) >= 2 else floats
        runs = asked if asked != "int8" or typed or "int8" in modes else floats
        parts = [node.name]
        behind = [each for name in node.output for each in readers.get(name, [])]
        if heavy and len(behind) == 1 and behind[0].op_type == "Relu":
            parts.append(behind[0].name)
            done.add(behind[0].name)
        prefix = [quantized[1].input[0], quantized[1].name] if runs == "int8" else []
        if runs == "int8" and not layers:
            layers.append(reformat(parts[0], version=version))
        name = " + ".join(prefix + parts) if heavy else f"PWN({node.name})" if node.op_type == "Relu" else node.name
        kind = HEAVY.get(node.op_type, node.op_type)
        layers.append(layer(name, kind, node, runs=runs, version=version) | {
            "Metadata": "\x1f".join(f"[ONNX Layer: {part}]" for part in parts),
            "heavy": heavy, "asked": asked, "runs": runs,
        })  # fmt: skip
    return layers


def refuse_illegal(graph: Any) -> None:
    """What TensorRT's parser refuses about Q/DQ: zero points, int32 biases, scales that are not positive."""
    import onnx

    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type in PAIR:
            scale = constants.get(node.input[1])
            zero = constants.get(node.input[2]) if len(node.input) > 2 else None
            codes = constants.get(node.input[0])
            if scale is not None and not (scale > 0).all():
                raise ValueError(f"{node.name}: Scale coefficients must all be positive")
            if zero is not None and zero.any():
                raise ValueError(f"{node.name}: shiftIsAllZeros(zeroPoint): Non-zero zero point is not supported")
            if codes is not None and codes.dtype.name not in ("int8", "float32", "float16"):
                raise ValueError(f"{node.name}: DequantizeLinear of {codes.dtype.name} is not supported")


def layer(name: str, kind: str, node: Any, *, runs: str, version: tuple[int, ...]) -> dict[str, Any]:
    """One layer as `--exportLayerInfo` writes it."""
    form = SHORT[runs] if version >= (10, 13) else LONG[runs]
    found = {
        "Name": name, "LayerType": kind,
        "Inputs": [{"Name": node.input[0] if node.input else "", "Location": "Device", "Format/Datatype": form}],
        "Outputs": [{"Name": node.output[0], "Location": "Device", "Format/Datatype": form}],
    }  # fmt: skip
    if kind in HEAVY.values():
        found["Weights"] = {"Type": SHORT[runs], "Count": 0}
        found["TacticName"] = f"stand_in_{runs}_kernel"
        found["Precision"] = SHORT[runs].upper() if version < (10,) else SHORT[runs]
    return found


def reformat(name: str, *, version: tuple[int, ...]) -> dict[str, Any]:
    """The copy in front of the first INT8 layer."""
    forms = SHORT if version >= (10, 13) else LONG
    title = "Reformatting CopyNode for Input Tensor 0 to " + name
    return {
        "Name": title, "LayerType": "Reformat", "Origin": "REFORMAT",
        "Inputs": [{"Name": "input", "Location": "Device", "Format/Datatype": forms["fp32"]}],
        "Outputs": [{"Name": "Reformatted", "Location": "Device", "Format/Datatype": forms["int8"]}],
        "heavy": False, "asked": "fp32", "runs": "fp32",
    }  # fmt: skip
