"""ONNX recurrent operators as torch layers, against ONNX Runtime's answers to the same file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from pipeline.graph.module_from_onnx import module_from_onnx
from pipeline.graph.onnx_from_torch import onnx_from_torch

STEPS, FEATURES, UNITS = 6, 3, 4
LAYERS = (nn.LSTM, nn.GRU, nn.RNN)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def asked(path: Path, inputs: np.ndarray) -> np.ndarray:
    """ONNX Runtime's answers, one input at a time along axis 1."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (door,) = session.get_inputs()
    parts = [session.run(None, {door.name: inputs[place : place + 1]})[0] for place in range(len(inputs))]
    return np.concatenate(parts)


def file_of(folder: Path, kind: str, *, begin: np.ndarray | None = None, **settings: Any) -> Path:
    """A file of Transpose (N, T, I) → (T, N, I), one operator, and its Y as (N, T·D·H)."""
    random = np.random.default_rng(3)
    directions = 2 if settings.get("direction") == "bidirectional" else 1
    height = GATES[kind] * UNITS
    shapes = {"W": (directions, height, FEATURES), "R": (directions, height, UNITS), "B": (directions, 2 * height)}
    constants = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    inputs = ["turned", "W", "R", "B"]
    if begin is not None:
        constants.append(numpy_helper.from_array(begin.astype(np.float32), "begin"))
        inputs += ["", "begin"]
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
        helper.make_node(kind, inputs, ["Y"], hidden_size=UNITS, name="cells", **settings),
        helper.make_node("Transpose", ["Y"], ["back"], perm=[2, 0, 1, 3]),
        helper.make_node("Flatten", ["back"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "one", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, STEPS, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, STEPS * directions * UNITS])], constants,
    )  # fmt: skip
    path = folder / "one.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def checked(path: Path) -> nn.Module:
    """The network of the file, after its answers to three inputs at once were those of the runtime."""
    network = module_from_onnx(path)
    inputs = np.random.default_rng(4).normal(size=(3, STEPS, FEATURES)).astype(np.float32)
    with torch.no_grad():
        answers = network(torch.from_numpy(inputs)).numpy()
    # The runtime's sigmoid and tanh are approximations of 1e-6.
    np.testing.assert_allclose(answers, asked(path, inputs), rtol=0, atol=1e-5)
    return network


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", GATES)
def test_3_operators_in_3_directions_are_layers_that_answer_as_the_runtime_does(
    kind: str, direction: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
    network = checked(file_of(tmp_path, kind, direction=direction, **settings))
    assert len([each for each in network.modules() if isinstance(each, LAYERS)]) == 1


def test_an_rnn_of_relus_from_4_zeros_is_a_layer(tmp_path: Path) -> None:
    network = checked(file_of(tmp_path, "RNN", activations=["Relu"], begin=np.zeros((1, 1, UNITS))))
    (layer,) = (each for each in network.modules() if isinstance(each, nn.RNN))
    assert layer.nonlinearity == "relu"


ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "resets before it multiplies": ("GRU", {}),
    "other activation functions": ("LSTM", {"activations": ["Sigmoid", "Tanh", "Softsign"]}),
    "clips": ("LSTM", {"clip": 0.5}),
    "coupled gates": ("LSTM", {"input_forget": 1}),
}


@pytest.mark.parametrize("what", ODD)
def test_4_forms_that_torch_has_not_stay_the_operators_that_they_are(what: str, tmp_path: Path) -> None:
    kind, settings = ODD[what]
    network = checked(file_of(tmp_path, kind, **settings))
    assert [each for each in network.modules() if isinstance(each, LAYERS)] == []


class Ends(nn.Module):
    """Two layers of one kind, all whose outputs are read."""

    def __init__(self, make: Callable[..., nn.Module], **settings: Any) -> None:
        super().__init__()
        self.cells: Any = make(FEATURES, UNITS, 2, batch_first=True, **settings)

    def forward(self, x: Tensor) -> Tensor:
        steps, state = self.cells(x)
        ends = torch.cat(state) if isinstance(state, tuple) else state
        return torch.cat([steps.flatten(1), ends.transpose(0, 1).flatten(1)], 1)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("make", LAYERS)
def test_2_layers_that_torch_wrote_come_back_with_their_weights_and_states(
    make: Callable[..., nn.Module], both: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    written = Ends(make, bidirectional=both).eval()
    path = tmp_path / "torch.onnx"
    onnx.save(onnx_from_torch(written, input_shape=(STEPS, FEATURES)), path)
    network = checked(path)
    layers: list[Any] = [each for each in network.modules() if isinstance(each, LAYERS)]
    assert len(layers) == 2
    assert torch.equal(layers[0].weight_hh_l0, written.cells.weight_hh_l0)
    assert torch.equal(layers[1].bias_ih_l0, written.cells.bias_ih_l1)
    network(torch.randn(2, STEPS, FEATURES)).sum().backward()  # it can be trained
    assert layers[0].weight_ih_l0.grad is not None
