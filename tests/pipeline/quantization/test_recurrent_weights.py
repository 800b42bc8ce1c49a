"""Recurrent layers on a grid: their arithmetic by hand, what the file holds, and the engine's answers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset, inputs_for_network
from pipeline.graph.compare import agreement
from pipeline.graph.module_from_onnx import module_from_onnx
from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.quantization.fake_quant import exportable
from pipeline.quantization.insert import watched
from pipeline.quantization.integer_reference import integers_of
from pipeline.quantization.recurrent_cells import rounded
from pipeline.quantization.recurrent_weights import QuantizedRecurrent, is_quantizable
from pipeline.stage import Run
from pipeline.stages.export import Export, answers_of_onnx, onnx_of
from pipeline.stages.quantize import Quantize
from pipeline.training.loop import Training
from pipeline.training.optimizers import AdamW

STEPS, FEATURES, UNITS = 7, 6, 5
SHAPE = (STEPS, FEATURES)


class Sequences(nn.Module):
    """Recurrent layers and a linear one that reads the last step."""

    def __init__(self, kind: Any, **settings: Any) -> None:
        super().__init__()
        self.cells = kind(FEATURES, UNITS, batch_first=True, **settings)
        self.head = nn.Linear(UNITS * (2 if self.cells.bidirectional else 1), 4)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.cells(x)
        return self.head(steps[:, -1])  # type: ignore[no-any-return]


class BothEnds(nn.Module):
    """Two layers in two directions with the steps first, their last states, and a linear layer for every step."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(FEATURES, UNITS, num_layers=2, bidirectional=True)
        self.each, self.head = nn.Linear(2 * UNITS, 8), nn.Linear(8 + 4 * UNITS, 4)

    def forward(self, x: Tensor) -> Tensor:
        steps, (hidden, cell) = self.cells(x.transpose(0, 1))
        ends = (hidden + cell).transpose(0, 1).flatten(1)
        return self.head(torch.cat([F.gelu(self.each(steps)).mean(0), ends], 1))  # type: ignore[no-any-return]


class Begun(nn.Module):
    """A GRU that begins with a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.cells, self.head = nn.Linear(FEATURES, UNITS), nn.GRU(FEATURES, UNITS), nn.Linear(UNITS, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        _, state = self.cells(x, torch.tanh(self.start(x[0])).unsqueeze(0))
        return self.head(state[0])  # type: ignore[no-any-return]


# network, operators that multiply integers and floats in the engine, DequantizeLinear nodes of stored weights
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int, int]] = {
    "LSTM": (partial(Sequences, nn.LSTM), 1, 1, 0),
    "LSTM without biases": (partial(Sequences, nn.LSTM, bias=False), 1, 1, 0),
    "LSTM, 2 layers, both ways": (BothEnds, 3, 1, 1),
    "GRU": (partial(Sequences, nn.GRU), 0, 2, 2),
    "GRU, 2 layers, both ways": (partial(Sequences, nn.GRU, num_layers=2, bidirectional=True), 0, 3, 4),
    "GRU from a state": (Begun, 1, 2, 3),
    "RNN": (partial(Sequences, nn.RNN, bias=False), 0, 2, 2),
    "RNN of ReLUs, both ways": (partial(Sequences, nn.RNN, nonlinearity="relu", bidirectional=True), 0, 2, 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_8_recurrent_networks_answer_alike_in_torch_in_onnx_and_in_the_engine(
    name: str, way_of: Callable[..., Any], tiny_data: Callable[..., Dataset]
) -> None:
    network, integer, floating, stored = NETWORKS[name]
    way = way_of(network, data=tiny_data(SHAPE))
    # 8 bits cost these networks up to 0.03 of the size of their answers. Between the forms the same integers are
    # multiplied: what differs is float32, 1e-6, or one code of a quantizer outside of the recurrent layer, 0.02.
    written = answers_of_onnx(way.exported.path, way.inputs)
    for reference, answers, tolerance in (
        (way.whole, way.fake, 0.1), (way.fake, written, 0.02), (way.fake, way.engine, 0.02),
    ):  # fmt: skip
        same = agreement(reference, answers)
        assert same.largest < tolerance * same.scale
    model = onnx.load(way.exported.path)
    (door,), (exit_,) = ([each.name for each in side] for side in (model.graph.input, model.graph.output))
    integers = integers_of(model, {door: way.inputs[:1]})[exit_]
    assert agreement(written[:1], integers).largest < 0.02 * same.scale  # numpy, step by step, likewise
    operators = way.built.facts["operators"]
    assert (operators["integer"], operators["floating"]) == (integer, floating)
    graph = model.graph
    constants = {each.name for each in graph.initializer}
    read = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    assert len(read) == stored
    assert way.quantized.facts["placement"]["recurrent"] == ("cells",)
    kept = way.quantized.facts["placement"]["kept_float"]
    assert ("cells" in kept) == (not name.startswith("LSTM"))


def by_hand(layer: nn.LSTM, weights: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """An LSTM of one input, (T, I), number by number: integers are multiplied and added as such."""

    def codes(values: np.ndarray) -> tuple[np.ndarray, float, int]:
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        scale = (high - low) / 255 or 1.0
        zero = int(np.rint(-low / scale))
        return np.clip(np.rint(values / scale) + zero, 0, 255).astype(np.int64), scale, zero

    def product(matrix: np.ndarray, vector: tuple[np.ndarray, float, int]) -> np.ndarray:
        step = np.abs(matrix).max(1) / 63
        whole, scale, zero = np.rint(matrix / step[:, None]).astype(np.int64), vector[1], vector[2]
        result: np.ndarray = (whole @ (vector[0] - zero)) * step * scale
        return result

    def sigmoid(values: np.ndarray) -> np.ndarray:
        result: np.ndarray = 1 / (1 + np.exp(-values))
        return result

    all_codes, scale, zero = codes(inputs)
    hidden, cell, steps = np.zeros(UNITS), np.zeros(UNITS), []
    for each in all_codes:
        gates = product(weights["weight_ih_l0"], (each, scale, zero)) + product(weights["weight_hh_l0"], codes(hidden))
        i, f, g, o = np.split(gates + weights["bias_ih_l0"] + weights["bias_hh_l0"], 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        steps.append(hidden)
    return np.stack(steps)


def test_a_dynamic_lstm_of_7_steps_multiplies_the_integers_that_a_loop_in_numpy_multiplies() -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(FEATURES, UNITS)
    student = QuantizedRecurrent(layer, bits=7, dynamic=True).eval()
    inputs = torch.randn(STEPS, 3, FEATURES)
    weights = {name: each.detach().double().numpy() for name, each in layer.named_parameters()}
    expected = np.stack([by_hand(layer, weights, inputs[:, place].double().numpy()) for place in range(3)], 1)
    with torch.no_grad():
        answers = student.double()(inputs.double())[0].numpy()
    # Both in float64; the quantizer of the weights computes in float32, 6e-8 of each.
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-6)


def test_3_values_are_rounded_by_the_range_that_they_have() -> None:
    # low −1, high 3: steps of 4/255 and zero at round(63.75) = 64, so −1 is 64 steps below and 3 is 191 above
    values = torch.tensor([[-1.0, 0.0, 3.0]])
    expected = torch.tensor([[-64.0, 0.0, 191.0]]) * 4 / 255
    torch.testing.assert_close(rounded(values, axes=(1,)), expected)
    assert torch.equal(rounded(torch.zeros(1, 3), axes=(1,)), torch.zeros(1, 3))


@pytest.mark.parametrize(("bits", "dynamic", "most"), [(7, True, 63), (8, False, 127)])
def test_a_weight_beyond_its_range_after_the_last_step_is_stored_as_63_or_127(
    bits: int, dynamic: bool, most: int
) -> None:
    network = Sequences(nn.LSTM)
    network.cells = QuantizedRecurrent(network.cells, bits=bits, dynamic=dynamic)
    with torch.no_grad():
        network.cells.layer.weight_hh_l0.mul_(1.2)
    model = onnx_of(network.eval(), input_shape=SHAPE)
    stored = [numpy_helper.to_array(each) for each in model.graph.initializer]
    weights = [each for each in stored if each.dtype == np.int8 and each.any()]
    assert [int(np.abs(each.astype(int)).max()) for each in weights] == [most, most]
    assert sum(each.size for each in weights) == 4 * UNITS * (FEATURES + UNITS)


def test_a_grid_point_form_of_2_layers_answers_what_the_fake_quantizers_do() -> None:
    torch.manual_seed(1)
    student = QuantizedRecurrent(nn.GRU(FEATURES, UNITS, 2, bidirectional=True), bits=8, dynamic=False).eval()
    inputs = torch.randn(STEPS, 3, FEATURES)
    with torch.no_grad():
        expected, end = student(inputs)
        answers, other = exportable(student)(inputs)
    assert end.shape == other.shape == (4, 3, UNITS)
    # The same grid, computed once as w·(127/a) and once as w/(a/127): float32 apart.
    torch.testing.assert_close(answers, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_gradient_of_2_layers_is_nearly_that_of_the_float_ones(dynamic: bool) -> None:
    torch.manual_seed(2)
    layer = nn.LSTM(FEATURES, UNITS, num_layers=2)
    student = QuantizedRecurrent(nn.LSTM(FEATURES, UNITS, num_layers=2), bits=8, dynamic=dynamic).train()
    student.layer.load_state_dict(layer.state_dict())
    inputs = torch.randn(STEPS, 3, FEATURES)
    for each in (layer, student):
        each(inputs)[0].square().sum().backward()
    for (name, one), other in zip(layer.named_parameters(), student.layer.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        size = float(one.grad.abs().max())
        # 8 bits move what is multiplied by up to a 254th of its range, and the gradient about as much per layer.
        assert float((one.grad - other.grad).abs().max()) < 0.05 * size, name


def test_an_lstm_asked_to_stay_float_leaves_its_2_weights_alone() -> None:
    network = nn.Sequential(nn.Linear(FEATURES, FEATURES), Sequences(nn.LSTM))
    _, placement = watched(network, keep_float=["1.cells"])
    assert placement.recurrent == ()
    assert placement.kept_float["1.cells"] == "asked for"


def test_1_lstm_with_projections_stays_float_and_so_does_a_single_step() -> None:
    assert is_quantizable(nn.LSTM(4, 4))
    assert not is_quantizable(nn.LSTM(4, 4, proj_size=2))
    assert not is_quantizable(nn.LSTMCell(4, 4))


def test_1_trained_lstm_with_learned_steps_answers_alike_in_onnx(
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    data = tiny_data(SHAPE)
    teacher = candidate_in(tmp_path / "t", partial(Sequences, nn.LSTM), data)
    run = run_in(tmp_path / "q", dataset=data, teacher=teacher)
    student = Quantize(Training(epochs=2, batch=16, optimizer=AdamW(lr=1e-2)), samples=32, learned_steps=True)(
        teacher, run
    )
    before, after = (dict(each.module().named_parameters()) for each in (teacher, student))
    moved = before["cells.weight_hh_l0"] - after["cells.layer.weight_hh_l0"]
    assert float(moved.detach().abs().max()) > 1e-3
    written = Export()(student, run_in(tmp_path / "e", dataset=data, teacher=teacher))
    inputs = inputs_for_network(data, data.test.inputs)
    with torch.inference_mode():
        expected = student.module()(torch.from_numpy(inputs)).numpy()
    # float32 in another order, and the weights that fall on the other side of a rounding: one code of 63 steps
    np.testing.assert_allclose(answers_of_onnx(written.path, inputs), expected, rtol=0, atol=2e-3)


def test_1_lstm_of_an_onnx_file_is_quantized_and_built(
    way_of: Callable[..., Any], tiny_data: Callable[..., Dataset], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    path = tmp_path / "float.onnx"
    onnx.save(onnx_from_torch(BothEnds().eval(), input_shape=SHAPE), path)
    way = way_of(partial(module_from_onnx, path), data=tiny_data(SHAPE))
    assert agreement(way.fake, way.engine).largest < 0.02 * agreement(way.fake, way.engine).scale  # as above
    assert way.built.facts["operators"]["integer"] == 3


@pytest.mark.parametrize(("kind", "dynamic"), [(nn.LSTM, True), (nn.LSTM, False), (nn.GRU, False)])
def test_the_file_of_a_layer_of_64_units_shrinks_below_3_tenths(kind: Any, dynamic: bool) -> None:
    sizes = []
    for layer in (kind(64, 64), QuantizedRecurrent(kind(64, 64), bits=7, dynamic=dynamic)):
        network = Sequences(kind)
        network.cells, network.head = layer, nn.Linear(64, 4)
        sizes.append(len(onnx_of(network.eval(), input_shape=(STEPS, 64)).SerializeToString()))
    assert sizes[1] < 0.3 * sizes[0]  # a quarter, a scale for each row, and names
