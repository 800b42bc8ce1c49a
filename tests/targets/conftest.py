"""Two small ONNX models of three layers, float and with Q/DQ pairs around every product; a stand-in Jetson."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE, CLASSES = 16, 8, 10


class GraphUnderWay:
    """Nodes and constants as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def quantized(self, tensor: str, *, scale: float, zero_point: int) -> str:
        scale_name = self.constant(f"{tensor}_scale", np.float32(scale))
        zero_name = self.constant(f"{tensor}_zero", np.uint8(zero_point))
        codes = self.node("QuantizeLinear", [tensor, scale_name, zero_name], f"{tensor}_codes")
        return self.node("DequantizeLinear", [codes, scale_name, zero_name], f"{tensor}_real")

    def weight(self, name: str, value: np.ndarray, *, quantized: bool) -> str:
        if not quantized:
            return self.constant(name, value.astype(np.float32))
        scale = np.float32(np.abs(value).max() / 63)  # seven bits: exact on every x86
        codes = self.constant(f"{name}_codes", np.round(value / scale).astype(np.int8))
        names = [codes, self.constant(f"{name}_scale", scale), self.constant(f"{name}_zero", np.int8(0))]
        return self.node("DequantizeLinear", names, name)

    def saved(self, path: Path, *, batch: int | str) -> Path:
        shape_in, shape_out = [batch, 3, SIDE, SIDE], [batch, CLASSES]
        graph = helper.make_graph(
            self.nodes, "small",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape_in)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape_out)],
            self.constants,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        return path


def small_network(path: Path, *, quantized: bool, batch: int | str = "N") -> Path:
    """Conv, ReLU, Conv, ReLU, pool, Gemm; the quantized one has a pair behind each tensor."""
    random = np.random.default_rng(0)
    graph = GraphUnderWay()

    def pair(tensor: str, *, scale: float, zero_point: int = 0) -> str:
        return graph.quantized(tensor, scale=scale, zero_point=zero_point) if quantized else tensor

    tensor = pair("input", scale=1 / 32, zero_point=128)
    for index, channels in enumerate((3, CHANNELS)):
        weight = random.normal(0, (channels * 9) ** -0.5, (CHANNELS, channels, 3, 3))
        names = [tensor, graph.weight(f"weight{index}", weight, quantized=quantized)]
        names.append(graph.constant(f"bias{index}", np.full(CHANNELS, 0.1, np.float32)))
        tensor = graph.node("Conv", names, f"conv{index}", pads=[1, 1, 1, 1])
        tensor = pair(graph.node("Relu", [tensor], f"relu{index}"), scale=1 / 64)
    tensor = graph.node("Flatten", [graph.node("GlobalAveragePool", [tensor], "pool")], "flat")
    tensor = pair(tensor, scale=1 / 64)
    names = [tensor, graph.weight("weight2", random.normal(0, 0.25, (CHANNELS, CLASSES)), quantized=quantized)]
    names.append(graph.constant("bias2", np.zeros(CLASSES, np.float32)))
    if quantized:
        graph.node("Gemm", names, "logits")
        graph.node("Identity", [graph.quantized("logits", scale=1 / 64, zero_point=128)], "output")
    else:
        graph.node("Gemm", names, "output")
    return graph.saved(path, batch=batch)


@pytest.fixture
def float_onnx(tmp_path: Path) -> Path:
    return small_network(tmp_path / "float.onnx", quantized=False)


@pytest.fixture
def float_onnx_of_batch_4(tmp_path: Path) -> Path:
    return small_network(tmp_path / "float4.onnx", quantized=False, batch=4)


@pytest.fixture
def quantized_onnx(tmp_path: Path) -> Path:
    return small_network(tmp_path / "quantized.onnx", quantized=True)


@pytest.fixture
def inputs() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(10, 3, SIDE, SIDE)).astype(np.float32)


@pytest.fixture
def stand_in_jetson(tmp_path: Path) -> Callable[..., Any]:
    """Makes a folder that acts as a Jetson, see standin/jetson_standin.py; its settings can be named."""
    path = Path(__file__).parent / "standin" / "jetson_standin.py"
    spec = importlib.util.spec_from_file_location("jetson_standin", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return lambda **settings: module.jetson_in(tmp_path / "stand-in jetson", **settings)
