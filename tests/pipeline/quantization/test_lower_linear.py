"""Linear layers behind quantizers: the same values in the form that ONNX Runtime multiplies in integers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from pipeline.data.dataset import Dataset
from pipeline.graph.first_difference import differences as differences_from_torch
from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.fake_quant import exportable, is_activation_point
from pipeline.quantization.float_kernels import quantized_products, with_float_kernels
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.integer_reference import differences, integers_of
from pipeline.quantization.lower_linear import linear_in_integers
from pipeline.quantization.lower_unsigned import activations_unsigned
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.quantized_graph import quantized_graph
from pipeline.quantization.validator import refusals, rules_from_scheme
from pipeline.quantization.worst_case import saturation
from pipeline.stages.export import answers_of_onnx
from targets.engines.ort import OnnxRuntime
from targets.schemes import ARM64
from targets.target import Scheme

SCHEME = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")
SCHEMES = {
    "x86": SCHEME,
    "x86, symmetric": Scheme(weight_bits=7, unsigned_activations=False, signed_zero_point=128, why="for the test"),
    "ARM64": ARM64,
}


def student_of(network: nn.Module, scheme: Scheme) -> nn.Module:
    """Quantized to ±3, ready to be exported."""
    graph, placement = watched(network.eval())
    student = quantized(graph, placement, amax=dict.fromkeys(placement.activations, 3.0), scheme=scheme).eval()
    biases_on_grid(student)
    return exportable(student)


def model_of(network: nn.Module, *, shape: tuple[int, ...]) -> onnx.ModelProto:
    return activations_unsigned(onnx_from_torch(student_of(network, SCHEME), input_shape=shape))


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


class Sum(nn.Module):
    """Two linear layers whose sum an integer layer reads: quantizers right behind them."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)  # type: ignore[no-any-return]


def followed(*functions: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), *functions, nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 2))


# what stands behind the first layer, integer products of ONNX Runtime, of which end in codes
BEHIND: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "ReLU": (lambda: followed(nn.ReLU()), 2, 1),
    "ReLU6": (lambda: followed(nn.ReLU6()), 2, 1),
    "2 ReLUs": (lambda: followed(nn.ReLU(), nn.ReLU()), 2, 1),
    "LeakyReLU": (lambda: followed(nn.LeakyReLU(0.1)), 2, 0),
    "sigmoid": (lambda: followed(nn.Sigmoid()), 2, 0),
    "tanh": (lambda: followed(nn.Tanh()), 2, 0),
    "GELU": (lambda: followed(nn.GELU()), 2, 0),
    "hard tanh, which ends within the codes": (lambda: followed(nn.Hardtanh()), 2, 0),
    "a sum": (lambda: nn.Sequential(Sum(nn.Linear(6, 8), nn.Linear(6, 8)), nn.Linear(8, 4), nn.ReLU(),
                                    nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2)), 4, 3),
}  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", BEHIND)
def test_what_stands_behind_a_layer_on_5_tokens_leaves_every_code_as_it_was_and_its_product_in_integers(
    name: str, scheme: str, tmp_path: Path
) -> None:
    make, integer, coded = BEHIND[name]
    torch.manual_seed(0)
    canonical = onnx_from_torch(student_of(make(), SCHEMES[scheme]), input_shape=(5, 6))
    lowered = lowered_for(canonical, SCHEMES[scheme])
    onnx.checker.check_model(lowered, full_check=True)
    inputs = torch.randn(1, 5, 6).numpy()
    # The canonical graph's products are float32 sums: of codes none lies on an edge here, the answers are float.
    apart = differences(canonical, lowered, {"input": inputs})
    assert [each for each in apart if each.tensor != "output"] == []
    assert all(each.largest is not None and each.largest < 1e-5 for each in apart)
    assert refusals(lowered, rules_from_scheme(SCHEMES[scheme])) == []
    assert len(saturation(lowered)) == integer
    steps = [each for each in quantized_graph(lowered).steps() if each.node.op_type == "Gemm"]
    assert len(steps) == coded
    onnx.save(lowered, tmp_path / "lowered.onnx")
    engine = OnnxRuntime()
    engine.build(tmp_path / "lowered.onnx", tmp_path / "model.engine.onnx", threads=1)
    assert engine.operators(tmp_path / "model.engine.onnx").integer == integer


FUNCTIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.SELU, nn.Hardsigmoid, nn.Softplus, nn.Softsign,
    nn.GELU, nn.SiLU, nn.Hardswish,
)  # fmt: skip


@pytest.mark.parametrize("shape", [(6,), (5, 6)])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_2_products_around_each_of_13_functions_are_in_integers_with_2_quantizers(
    function: Callable[[], nn.Module], shape: tuple[int, ...], tmp_path: Path
) -> None:
    lowered = linear_in_integers(model_of(followed(function()), shape=shape))
    assert sum(node.op_type == "QuantizeLinear" for node in lowered.graph.node) == 2  # of the input, and behind it
    onnx.save(lowered, tmp_path / "lowered.onnx")
    engine = OnnxRuntime()
    engine.build(tmp_path / "lowered.onnx", tmp_path / "model.engine.onnx", threads=1)
    assert engine.operators(tmp_path / "model.engine.onnx").integer == 2


@pytest.mark.parametrize("scheme", [SCHEME, ARM64], ids=["x86", "ARM64"])
def test_a_layer_of_weight_2_and_a_relu_give_codes_0_64_and_255(scheme: Scheme) -> None:
    layer, after = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(0.0)
    network = nn.Sequential(layer, nn.ReLU(), after, nn.LayerNorm(1), nn.Linear(1, 1))
    lowered = lowered_for(onnx_from_torch(student_of(network, scheme), input_shape=(3, 1)), scheme)
    # 16 steps of 3/127 are 0.378; twice that are 0.756, and 64.25 steps of 3/255. 127 of them are 3, twice that ends.
    inputs = np.array([[[-1.0], [16 * 3 / 127], [3.0]]], np.float32)
    (step,) = (each for each in quantized_graph(lowered).steps() if each.clips)
    codes = integers_of(lowered, {"input": inputs})[step.quantize.output[0]]
    zero = 0 if scheme is SCHEME else -128
    assert codes.tolist() == [[zero], [zero + 64], [zero + 255]]
    assert codes.shape == (3, 1)  # rows: the axes of the batch and of the tokens are one


class Mixer(nn.Module):
    """Rows of 8×8 points as 8 tokens; two linear layers with a ReLU between them, added to what they read."""

    def __init__(self, *, normed_first: bool) -> None:
        super().__init__()
        self.first, self.widen, self.narrow = nn.Linear(8, 16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.norm, self.relu, self.last, self.normed_first = nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 4), normed_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.reshape(-1, 8, 8))  # (N, T, F)
        if self.normed_first:
            x = x + self.narrow(self.relu(self.widen(self.norm(x))))
        else:
            x = self.norm(x + self.narrow(self.relu(self.widen(x))))
        return self.last(x.mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("normed_first", [True, False])
def test_an_engine_with_3_layers_on_8_tokens_has_them_in_integers_and_answers_as_torch_does(
    normed_first: bool, way_of: Callable[..., Any], tiny_data: Callable[..., Dataset]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        way = way_of(lambda: Mixer(normed_first=normed_first), data=tiny_data((64,)))
    assert way.built.facts["operators"]["integer"] == 3
    # Roundings of torch and of the engine differ at the middle between two codes: one step, of 255, in few places.
    assert np.abs(way.engine - way.fake).max() < 0.02 * np.abs(way.fake).max()


def test_codes_of_a_symmetric_student_are_those_of_torch_in_each_of_5_tensors() -> None:
    torch.manual_seed(0)
    scheme = SCHEMES["x86, symmetric"]
    student = student_of(BEHIND["a sum"][0](), scheme)  # of its sum and its branches the codes are shifted
    canonical = onnx_from_torch(student, input_shape=(5, 6))
    found = differences_from_torch(
        student, is_point=is_activation_point, canonical=canonical,
        lowered=lowered_for(canonical, scheme), inputs=torch.randn(1, 5, 6).numpy(),
    )  # fmt: skip
    assert [each.largest for each in found] == [0] * 5


def test_a_bias_of_more_than_2_to_the_30_steps_is_refused_also_where_it_is_stored_as_integers() -> None:
    for network in (followed(nn.ReLU()), normed()):
        with torch.no_grad():
            next(layer for layer in network.modules() if isinstance(layer, nn.Linear)).bias[1] = 1e9
        said = refusals(linear_in_integers(model_of(network, shape=(5, 6))), rules_from_scheme(SCHEME))
        assert len(said) == 1
        assert "the bias of output 1 is 2.1e+09 steps of s_x·s_w" in said[0]


@pytest.mark.parametrize("shape", [(6,), (5, 6)])
def test_2_lowered_layers_in_float_kernels_answer_alike(shape: tuple[int, ...], tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    lowered = linear_in_integers(model_of(network, shape=shape))
    floating = with_float_kernels(lowered, quantized_products(lowered))
    onnx.checker.check_model(floating, full_check=True)  # no name is given twice
    inputs = torch.randn(20, *shape).clamp(-3, 3)
    same = answers(lowered, tmp_path / "a.onnx", inputs), answers(floating, tmp_path / "b.onnx", inputs)
    # Float32 sums on the same grid; a code on the middle between two may go to the other one.
    assert np.mean(np.abs(same[0] - same[1]) < 1e-5) > 0.9


def test_a_layer_without_a_bias_and_1_on_vectors_whose_answers_are_quantized_stay_as_they_are() -> None:
    cases = ((normed(bias=False), (5, 6)), (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)), (6,)))
    for network, shape in cases:
        before = model_of(network, shape=shape)
        after = linear_in_integers(before)
        assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node]
        assert len(after.graph.initializer) == len(before.graph.initializer)


@pytest.mark.parametrize("make", [normed, lambda: followed(nn.ReLU6())])
def test_no_constant_has_2_readers_afterwards(make: Callable[[], nn.Module]) -> None:
    after = linear_in_integers(model_of(make(), shape=(5, 6)))
    read = [name for node in after.graph.node for name in node.input]
    assert [each.name for each in after.graph.initializer if read.count(each.name) != 1] == []
