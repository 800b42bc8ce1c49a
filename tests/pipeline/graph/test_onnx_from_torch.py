"""A network and its ONNX file give the same answers, and its operations are counted right."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from pipeline.errors import NetworkRefused
from pipeline.graph.compare import agreement
from pipeline.graph.count import parameters_and_macs
from pipeline.graph.onnx_from_torch import constants_unshared, onnx_from_torch, weights_stored_as_integers
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.fake_quant import exportable
from pipeline.quantization.insert import quantized, watched
from pipeline.stages.export import answers_of_onnx
from targets.target import Scheme


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_8_inputs_are_answered_alike_by_torch_and_onnx(shortcut: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResNetCifar(8, width=8, shortcut=shortcut).train()  # type: ignore[arg-type]
    network(torch.randn(16, 3, 32, 32))
    onnx.save(onnx_from_torch(network, input_shape=(3, 32, 32)), tmp_path / "model.onnx")
    inputs = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        expected = network.eval()(inputs).numpy()
    # Float32 in two libraries, the batch norms folded in one of them.
    np.testing.assert_allclose(answers_of_onnx(tmp_path / "model.onnx", inputs.numpy()), expected, rtol=1e-4, atol=1e-4)


def test_the_names_at_the_2_doors_the_batch_and_the_opset_are_fixed() -> None:
    model = onnx_from_torch(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), input_shape=(3, 2, 2))
    assert [each.name for each in model.graph.input] == ["input"]
    assert [each.name for each in model.graph.output] == ["output"]
    assert [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 2, 2]
    assert [each.version for each in model.opset_import] == [17]


def test_mean_pooling_is_1_operator_that_integer_runtimes_know() -> None:
    model = onnx_from_torch(ResNetCifar(8, width=4), input_shape=(3, 32, 32))
    assert [node.op_type for node in model.graph.node].count("GlobalAveragePool") == 1


class Unknown(nn.Module):
    """An operation without an ONNX form."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svdvals(x)  # type: ignore[no-any-return]


def test_an_operation_that_onnx_does_not_have_is_refused_in_1_line() -> None:
    with pytest.raises(
        NetworkRefused, match=r"Unknown cannot be exported to ONNX for inputs of shape \(3, 3\)"
    ) as told:
        onnx_from_torch(Unknown(), input_shape=(3, 3))
    assert "\n" not in str(told.value)


def test_inputs_of_a_wrong_size_are_refused() -> None:
    with pytest.raises(NetworkRefused, match="inputs of shape"):
        onnx_from_torch(nn.Linear(12, 4), input_shape=(11,))


def test_2_exports_of_a_network_have_the_same_bytes() -> None:
    torch.manual_seed(0)
    network = ResNetCifar(8, width=4)
    one, other = (onnx_from_torch(network, input_shape=(3, 32, 32)).SerializeToString() for _ in range(2))
    assert one == other


def test_a_constant_with_2_readers_behind_an_identity_becomes_2() -> None:
    scale = numpy_helper.from_array(np.float32(2.0), "scale")
    nodes = [
        helper.make_node("Identity", ["scale"], ["same"]),
        helper.make_node("Mul", ["x", "scale"], ["a"]),
        helper.make_node("Mul", ["a", "same"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [scale]))
    constants_unshared(model)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Mul", "Mul"]
    assert len({node.input[1] for node in model.graph.node}) == len(model.graph.initializer) == 2


def test_a_weight_of_2_channels_is_stored_as_the_integers_it_stands_for() -> None:
    weight = np.array([[1.0, -0.5, 0.26], [-2.0, 1.0, 9.0]], np.float32)  # the last is beyond the range
    constants = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.array([0.01, 0.02], np.float32), "s"),
        numpy_helper.from_array(np.zeros(2, np.int8), "z"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"], axis=0),
        helper.make_node("MatMul", ["x", "q"], ["y"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], constants))
    weights_stored_as_integers(model)
    (stored,) = model.graph.initializer
    assert numpy_helper.to_array(stored).tolist() == [[100, -50, 26], [-100, 50, 127]]
    assert [node.op_type for node in model.graph.node] == ["MatMul"]


@pytest.mark.parametrize(
    ("network", "shape", "parameters", "macs"),
    [
        (nn.Linear(12, 4), (12,), 52, 48),
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10), 224, 21_600),  # 8·10·10 outputs of 3·3·3 products
        (nn.Conv2d(8, 8, 3, groups=8, bias=False), (8, 10, 10), 72, 4_608),  # 8·8·8 outputs of 9
        (nn.Conv2d(8, 16, 1, groups=4, stride=2), (8, 10, 10), 48, 800),  # 16·5·5 of 2
        (nn.Conv1d(2, 4, 5, bias=False), (2, 20), 40, 640),  # 4·16 of 10
        (nn.ConvTranspose2d(3, 5, 2, stride=2, bias=False), (3, 4, 4), 60, 960),  # 3·4·4 inputs, each to 5·2·2
    ],
)
def test_6_layers_are_counted_as_on_paper(
    network: nn.Module, shape: tuple[int, ...], parameters: int, macs: int
) -> None:
    assert parameters_and_macs(onnx_from_torch(network, input_shape=shape)) == (parameters, macs)


def test_resnet_20_has_the_0_27_million_weights_and_41_million_operations_of_the_paper() -> None:
    # He et al. 2015, table 6: 0.27 M. Batch norms are folded: each of 19 leaves a bias in place of four vectors.
    network = ResNetCifar(20).eval()
    parameters, macs = parameters_and_macs(onnx_from_torch(network, input_shape=(3, 32, 32)))
    weights = sum(each.numel() for each in network.parameters() if each.dim() > 1)
    biases = sum(each.num_features for each in network.modules() if isinstance(each, nn.BatchNorm2d)) + 10
    assert parameters == weights + biases
    # 3·16·9·1024 + 6 · 16·16·9·1024 + (16·32 + 5 · 32·32)·9·256 + (32·64 + 5 · 64·64)·9·64 + 640, by hand.
    assert macs == 40_551_040


def test_a_model_of_unknown_shape_has_parameters_and_no_count_of_operations() -> None:
    model = onnx_from_torch(nn.Conv2d(3, 8, 3), input_shape=(3, 10, 10))
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[2].dim_param = "height"
    del model.graph.value_info[:]
    assert parameters_and_macs(model) == (224, None)


def test_agreement_of_2_inputs_by_hand() -> None:
    reference = np.array([[3.0, 1.0], [0.0, 2.0]])
    same = agreement(reference, np.array([[2.5, 1.0], [4.0, 2.0]]))
    assert (same.equal_answers, same.largest, same.inputs) == (0.5, 4.0, 2)
    assert same.scale == pytest.approx(np.sqrt(14 / 4))
    with pytest.raises(ValueError, match="cannot be compared"):
        agreement(reference, reference[:1])


def test_quantized_and_float_network_of_1_architecture_have_the_same_operations() -> None:
    # What is quantized is counted through its QuantizeLinear and DequantizeLinear, not lost behind them.
    make = partial(ResNetCifar, 8, width=4)
    graph, placement = watched(make().eval())
    scheme = Scheme(weight_bits=8, unsigned_activations=True, signed_zero_point=0, why="")
    student = quantized(graph, placement, amax=dict.fromkeys(placement.activations, 1.0), scheme=scheme).eval()
    ours = parameters_and_macs(onnx_from_torch(exportable(student), input_shape=(3, 32, 32)))
    assert ours == parameters_and_macs(onnx_from_torch(make(), input_shape=(3, 32, 32)))
