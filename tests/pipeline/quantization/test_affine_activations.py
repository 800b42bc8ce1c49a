"""Activations with a zero point of their own: in torch, in the file, in the engine, and where no target takes them."""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from calibration.observe import observe
from calibration.observers.mse import MeanSquaredError
from calibration.ranges import Ranges
from calibration.samples import Samples
from pipeline.graph.first_difference import points_of, values_at
from pipeline.quantization.affine_quantizer import AffineQuantizer
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.fake_quant import (
    exportable,
    is_activation_point,
)
from pipeline.quantization.functions_behind import functions_behind
from pipeline.quantization.insert import calibrated, empty_quantized, point_name, watched
from pipeline.quantization.integer_operators import centred
from pipeline.quantization.integer_reference import differences, integers_of
from pipeline.quantization.learned_steps import LearnedSteps, steps_fixed, with_learned_steps
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.placement import Placement
from pipeline.quantization.quantized_graph import quantized_graph
from pipeline.quantization.validator import TENSORRT as TENSORRT_RULES
from pipeline.quantization.validator import refusals, rules_from_scheme
from pipeline.quantization.worst_case import layer_alone, saturation, worst_codes
from pipeline.stages.export import onnx_of
from targets.devices.x86_cpu import scheme_from_features
from targets.reach.local import is_x86
from targets.schemes import ARM64, TENSORRT
from targets.target import Scheme

Answers = Callable[..., np.ndarray]
SHAPE = (3, 12, 12)
AVX2, VNNI = scheme_from_features(()), scheme_from_features(("avx512_vnni",))


class Leaky(nn.Module):
    """Convolutions with LeakyReLU, one of them depthwise and padded by hand, a signed residual sum, and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, groups=8)
        self.wide, self.act, self.mean = nn.Conv2d(8, 8, 1), nn.LeakyReLU(0.1, inplace=True), nn.AdaptiveAvgPool2d(1)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = x + self.wide(F.leaky_relu(self.deep(F.pad(x, (1, 1, 1, 1))), 0.1))
        return self.last(torch.flatten(self.mean(self.act(self.wide(x))), 1))  # type: ignore[no-any-return]


class Swish(nn.Module):
    """SiLU, a residual sum, a concat and a sum that a convolution reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(16, 8, 1)
        self.act, self.mean, self.last = nn.SiLU(), nn.AvgPool2d(2), nn.Linear(8 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = x + self.act(self.one(x))
        x = self.act(self.two(torch.cat([x, self.one(x)], 1)))
        return self.last(torch.flatten(self.mean(x), 1))  # type: ignore[no-any-return]


NETWORKS: dict[str, Callable[[], nn.Module]] = {"leaky": Leaky, "swish": Swish}


def asked(size: float = 1.0, *, seed: int = 5, count: int = 1) -> np.ndarray:
    """Inputs of a mean of 0.5, so that their own range is lopsided, too."""
    return (size * np.random.default_rng(seed).normal(0.5, 1.0, size=(count, *SHAPE))).astype(np.float32)


def float_network(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return NETWORKS[name]().eval()


@cache
def ranges_of(name: str) -> Ranges:
    graph, placement = watched(float_network(name))
    points = {point_name(each): MeanSquaredError() for each in placement.activations}
    samples = Samples(asked(seed=1, count=16), origin="random")
    return observe(graph, samples, points=points, affine=True, behind=functions_behind(graph))


def student_of(name: str, scheme: Scheme) -> tuple[fx.GraphModule, Placement]:
    graph, placement = watched(float_network(name))
    student, placement = calibrated(graph, placement, ranges=ranges_of(name), scheme=scheme)
    biases_on_grid(student)
    return student.eval(), placement


@cache
def canonical_of(name: str, scheme: Scheme) -> onnx.ModelProto:
    return onnx_of(student_of(name, scheme)[0], input_shape=SHAPE)


# ── which tensors, and what is kept of it ──


def test_a_network_whose_steps_were_learned_is_the_same_again_and_keeps_its_zero_points() -> None:
    student, placement = student_of("leaky", AVX2)
    inputs = torch.from_numpy(asked())
    expected, names = student(inputs), list(student.state_dict())
    with_learned_steps(student)
    assert torch.equal(student(inputs), expected)
    with torch.no_grad():
        for each in student.modules():
            if isinstance(each, LearnedSteps):
                each.size.mul_(0.7)
    changed = student(inputs)
    assert not torch.equal(changed, expected)
    assert torch.equal(steps_fixed(student)(inputs), changed)
    assert list(student.state_dict()) == names
    assert sum(isinstance(each, AffineQuantizer) for each in student.modules()) == len(placement.affine)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_that_may_be_negative_has_a_zero_point_and_on_tensorrt_0_have(name: str) -> None:
    _, placement = student_of(name, AVX2)
    assert set(placement.affine) == {each for each, positive in placement.activations.items() if not positive}
    assert len(placement.affine) >= 7
    symmetric, placed = student_of(name, TENSORRT)
    assert placed.affine == ()
    assert not any(isinstance(each, AffineQuantizer) for each in symmetric.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_student_comes_back_from_its_state_and_its_placement_as_json_to_the_bit(name: str) -> None:
    student, placement = student_of(name, AVX2)
    facts = json.loads(json.dumps(asdict(placement)))
    empty = empty_quantized(lambda: float_network(name), scheme=AVX2, placement=facts)
    empty.load_state_dict(student.state_dict(), strict=True)
    inputs = torch.from_numpy(asked(count=4))
    assert torch.equal(empty.eval()(inputs), student(inputs))
    zeros = {int(each.zero) for each in empty.modules() if isinstance(each, AffineQuantizer)}
    assert len(zeros - {0, 128}) >= 5


def test_a_placement_of_before_with_4_fields_gives_symmetric_quantizers() -> None:
    _, placement = student_of("leaky", AVX2)
    old = {name: value for name, value in asdict(placement).items() if name != "affine"}
    empty = empty_quantized(lambda: float_network("leaky"), scheme=AVX2, placement=old)
    assert not any(isinstance(each, AffineQuantizer) for each in empty.modules())


def test_of_a_leaky_network_3_points_are_read_by_their_activation_alone() -> None:
    graph, placement = watched(float_network("leaky"))
    behind = functions_behind(graph)
    assert len(behind) == 3  # stem, deep, and the second call of wide; the first call goes into the sum
    assert set(behind) <= {point_name(each) for each in placement.activations}
    values = torch.tensor([-2.0, 3.0])
    for function in behind.values():
        torch.testing.assert_close(function(values.clone()), torch.tensor([-0.2, 3.0]), rtol=1e-6, atol=0)


# ── torch, file and engine ──


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scheme", [AVX2, VNNI, ARM64], ids=["AVX2", "VNNI", "ARM64"])
def test_each_tensor_of_the_lowered_graph_is_the_canonical_one_on_inputs_of_4_sizes(name: str, scheme: Scheme) -> None:
    canonical = canonical_of(name, scheme)
    lowered = lowered_for(canonical, scheme)
    onnx.checker.check_model(lowered, full_check=True)
    assert refusals(lowered, rules_from_scheme(scheme)) == []
    for size in (0.0, 0.1, 1.0, 100.0):
        assert differences(canonical, lowered, {"input": asked(size)}) == ()
    assert not any(node.op_type == "Pad" and "input" in node.input for node in lowered.graph.node)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_layer_of_torch_gives_the_codes_of_the_reference_but_1_in_100_on_an_edge(name: str) -> None:
    model = canonical_of(name, AVX2)
    graph, points = quantized_graph(model), points_of(model)
    inputs = asked()
    seen = values_at(exportable(student_of(name, AVX2)[0]), is_activation_point, inputs)
    given = {}
    for node, value in zip(points, seen, strict=True):
        pair = graph.pair(node)
        assert pair.zero.dtype == np.uint8
        given[node.output[0]] = (np.rint(value / pair.scale) + pair.zero).astype(np.uint8)
    computed = integers_of(model, {"input": inputs}, instead=given)
    for codes, expected in given.items():
        pair = graph.pair(graph.maker[codes])
        apart = np.abs(centred(computed[codes], pair) - centred(expected, pair))
        assert apart.max() <= 1
        assert (apart > 0).mean() <= 0.01


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_answers_as_the_reference_within_1_step_of_the_last_codes(name: str, answered: Answers) -> None:
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    lowered = lowered_for(canonical_of(name, AVX2), AVX2)
    for size in (1.0, 100.0):
        inputs = {"input": asked(size)}
        expected = integers_of(lowered, inputs, as_avx2=True)["output"]
        # LeakyReLU and SiLU are computed in float on both sides: a value on an edge may get the next code.
        room = 0.02 * float(np.abs(expected).max())
        np.testing.assert_allclose(answered(lowered, inputs), expected, rtol=0, atol=room)


@pytest.mark.parametrize("name", NETWORKS)
def test_neighbours_of_128_together_cannot_saturate_16_bits_at_any_codes_whatever_the_zero_point(
    name: str, answered: Answers
) -> None:
    lowered = lowered_for(canonical_of(name, AVX2), AVX2)
    found = saturation(lowered)
    assert len(found) >= 4
    for each in found:
        assert each.always_exact or abs(each.worst_pair_sum) <= 255 * 128 == 32_640  # always: depthwise
        assert not each.can_saturate
        if is_x86():
            alone, codes = layer_alone(lowered, each.node), worst_codes(lowered, each.node)
            inputs = {alone.graph.input[0].name: codes}
            assert np.array_equal(answered(alone, inputs), integers_of(alone, inputs)[alone.graph.output[0].name])


def test_tensorrt_refuses_a_graph_with_zero_points_by_the_name_of_its_1st() -> None:
    found = refusals(canonical_of("leaky", AVX2), TENSORRT_RULES)
    assert any("uint8" in each for each in found)
