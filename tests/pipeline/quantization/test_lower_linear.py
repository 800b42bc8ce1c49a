"""Linear layers between quantizers and floats: the same values in the form that ONNX Runtime multiplies in integers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.fake_quant import exportable
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.lower_linear import linear_in_integers
from pipeline.quantization.lower_unsigned import activations_unsigned
from pipeline.stages.export import answers_of_onnx
from targets.engines.ort import OnnxRuntime
from targets.target import Scheme

SCHEME = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")


def model_of(network: nn.Module, *, shape: tuple[int, ...]) -> onnx.ModelProto:
    torch.manual_seed(0)
    graph, placement = watched(network.eval())
    student = quantized(graph, placement, amax=dict.fromkeys(placement.activations, 3.0), scheme=SCHEME).eval()
    biases_on_grid(student)
    return activations_unsigned(onnx_from_torch(exportable(student), input_shape=shape))


def normed(*, bias: bool = True) -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8, bias=bias), nn.LayerNorm(8), nn.Linear(8, 4, bias=bias), nn.GELU(), nn.Linear(4, 2)
    )


def answers(model: onnx.ModelProto, path: Path, inputs: Tensor) -> np.ndarray:
    onnx.save(model, path)
    return answers_of_onnx(path, inputs.numpy())


# shape of an input, what follows becomes: reshapes added, integer products of ONNX Runtime
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "tokens": (normed, (5, 6), 2 * 2, 2),
    "tokens of pictures": (normed, (2, 5, 6), 2 * 2, 2),
    "vectors": (normed, (6,), 0, 2),
}


@pytest.mark.parametrize("name", CASES)
def test_3_shapes_of_inputs_are_answered_alike_before_and_after_and_in_integers(name: str, tmp_path: Path) -> None:
    make, shape, reshapes, integer = CASES[name]
    before = model_of(make(), shape=shape)
    after = linear_in_integers(before)
    onnx.checker.check_model(after, full_check=True)
    kinds = [[node.op_type for node in each.graph.node] for each in (before, after)]
    assert kinds[1].count("Reshape") - kinds[0].count("Reshape") == reshapes
    inputs = torch.randn(20, *shape).clamp(-3, 3)
    same = answers(before, tmp_path / "a.onnx", inputs), answers(after, tmp_path / "b.onnx", inputs)
    # The same numbers in another order of float32 sums; a code on the middle between two may go to the other one.
    assert np.abs(same[0] - same[1]).max() < 0.02 * np.abs(same[0]).max()
    assert np.mean(np.abs(same[0] - same[1]) < 1e-5) > 0.9
    engine = OnnxRuntime()
    engine.build(tmp_path / "b.onnx", tmp_path / "b.engine.onnx", threads=1)
    assert engine.operators(tmp_path / "b.engine.onnx").integer == integer


def test_a_bias_of_3_steps_is_stored_as_3() -> None:
    layer = nn.Linear(1, 1)
    network = nn.Sequential(layer, nn.LayerNorm(1), nn.Linear(1, 1))
    unit = (3.0 / 127) * (2.0 / 63)  # of the input by its range, of the weight by its largest
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(3 * unit)
    after = linear_in_integers(model_of(network, shape=(4, 1)))
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in after.graph.initializer}
    codes = [value for name, value in stored.items() if name.endswith("bias_codes")]
    assert [value.tolist() for value in codes] == [[3]]
    assert codes[0].dtype == np.int32


def test_a_layer_without_a_bias_and_1_whose_answers_are_quantized_stay_as_they_are() -> None:
    for network in (normed(bias=False), nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))):
        before = model_of(network, shape=(5, 6))
        after = linear_in_integers(before)
        assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node]
        assert len(after.graph.initializer) == len(before.graph.initializer)


def test_no_constant_has_2_readers_afterwards() -> None:
    after = linear_in_integers(model_of(normed(), shape=(5, 6)))
    read = [name for node in after.graph.node for name in node.input]
    assert [each.name for each in after.graph.initializer if read.count(each.name) != 1] == []
