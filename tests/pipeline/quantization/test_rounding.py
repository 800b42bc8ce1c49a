"""Adaptive rounding: by hand, against all roundings, to the bit, and never worse than nearest."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.bias_correction import biases_corrected
from pipeline.quantization.equalize import equalized
from pipeline.quantization.fake_quant import GridPoint, QuantizedWeight, channel_amax
from pipeline.quantization.insert import empty_quantized, quantized, watched
from pipeline.quantization.rounding import AdaptiveRounding, RoundedLayer, stretched_sigmoid
from targets.target import Scheme

QUICK = AdaptiveRounding(iterations=60, batch=16, learning_rate=0.1)


class Separable(nn.Module):
    """Depthwise convolutions with ReLU6, a transposed one, and one layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep, self.point = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1)
        self.wide, self.twice, self.head = nn.ConvTranspose2d(8, 6, 2), nn.Conv2d(6, 6, 1), nn.Linear(6, 4)
        self.relu, self.six = nn.ReLU(inplace=True), nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = self.six(self.deep(self.relu(self.stem(x))))
        x = self.twice(self.twice(self.wide(self.point(x))))
        answer: Tensor = self.head(x.mean((2, 3)))
        return answer


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "separable": (Separable, (3, 8, 8), 4),
    "residual": (lambda: ResNetCifar(8, width=4, shortcut="B"), (3, 8, 8), 9),
    "tokens": (
        lambda: nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)), (5, 6), 2,
    ),
}  # fmt: skip


def twins(network: nn.Module, *, bits: int = 7, amax: float = 3.0) -> tuple[fx.GraphModule, fx.GraphModule]:
    """(quantized, float), every activation in the same range."""
    scheme = Scheme(weight_bits=bits, unsigned_activations=True, signed_zero_point=128, why="for the test")
    graph, placement = watched(network.eval())
    reference = copy.deepcopy(graph)
    return quantized(graph, placement, amax=dict.fromkeys(placement.activations, amax), scheme=scheme).eval(), reference


def made(name: str) -> tuple[fx.GraphModule, fx.GraphModule, Tensor, int]:
    torch.manual_seed(0)
    make, shape, count = NETWORKS[name]
    return *twins(make()), torch.randn(40, *shape), count


def weight_of(layer: Any) -> Tensor:
    weight: Tensor = layer.layer.weight.detach()
    return weight


def one_layer(weight: Tensor, bias: float) -> tuple[fx.GraphModule, fx.GraphModule]:
    """A linear layer with a ReLU, its input on the grid of the integers, and a last layer that stays float."""
    first, last = nn.Linear(weight.shape[1], len(weight)), nn.Linear(len(weight), 1)
    first.weight.data, first.bias.data = weight, torch.full((len(weight),), bias)
    return twins(nn.Sequential(first, nn.ReLU(), last), amax=127.0)


def test_3_weights_about_0_4_that_act_together_are_rounded_to_1_up_and_2_down() -> None:
    # The channel's scale is 1, since its largest weight is 63 of 63; inputs (0, 1, 1, 1) make 0.3 + 0.41 + 0.49.
    student, reference = one_layer(torch.tensor([[63.0, 0.3, 0.41, 0.49]]), bias=5.0)
    (result,) = AdaptiveRounding()(student, reference=reference, inputs=torch.tensor([[0.0, 1, 1, 1]]))
    assert result.error_nearest == pytest.approx(1.44)  # (1.2 − 0)²
    assert result.error == pytest.approx(0.04, rel=1e-5)  # (1.2 − 1)², of float32 sums near 6
    assert result.changed == 1
    weight = weight_of(student.get_submodule("0"))
    assert sorted(weight.flatten().tolist()) == [0.0, 0.0, 1.0, 63.0]


def weights_and_inputs(seed: int) -> tuple[Tensor, Tensor]:
    """A channel of 8 weights beside the one of 63 that makes its scale 1, which reads zeros."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.cat([torch.tensor([[63.0]]), 4 * torch.rand(1, 8, generator=random)], 1)
    inputs = torch.randint(0, 9, (40, 9), generator=random).float()  # never negative: the errors add up
    inputs[:, 0] = 0
    if seed == 5:
        weight[0, 1:] = torch.tensor([1.41, 3.29, 0.37, 2.45, 1.32, 0.48, 2.36, 0.27])  # nearest is down for all
    return weight, inputs


@pytest.mark.parametrize("seed", [0, 2, 3, 5])
def test_9_tenths_of_the_way_from_nearest_to_the_best_of_all_256_roundings_are_found(seed: int) -> None:
    weight, inputs = weights_and_inputs(seed)
    student, reference = one_layer(weight, bias=1.0)
    (result,) = AdaptiveRounding()(student, reference=reference, inputs=inputs)
    roundings = weight[0, 1:].floor() + torch.tensor(list(itertools.product((0.0, 1.0), repeat=8)))  # (256, 8)
    errors = inputs[:, 1:] @ roundings.T - (inputs @ weight[0])[:, None]  # (40, 256)
    best = float(errors.square().mean(0).min())
    assert result.error_nearest > 1.5 * best
    # The method descends; that it finds the very best is not promised.
    assert best * 0.999 < result.error < best + 0.1 * (result.error_nearest - best)


def test_where_the_relu_gives_0_for_all_40_inputs_nothing_is_rounded_otherwise() -> None:
    torch.manual_seed(0)
    student, reference = one_layer(torch.randn(3, 5), bias=-1000.0)
    (result,) = QUICK(student, reference=reference, inputs=torch.randn(40, 5))
    assert result == RoundedLayer("_0", 0.0, 0.0, 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_layer_of_3_networks_is_worse_than_nearest_and_most_are_better(name: str) -> None:
    student, reference, inputs, count = made(name)
    results = QUICK(student, reference=reference, inputs=inputs)
    assert len(results) == count
    assert all(each.error <= each.error_nearest for each in results)
    assert sum(each.error < each.error_nearest for each in results) > count / 2
    assert all((each.changed > 0) == (each.error < each.error_nearest) for each in results)


def test_the_error_told_for_each_of_9_layers_is_the_one_seen_in_the_running_network() -> None:
    student, reference, inputs, _ = made("residual")
    results = QUICK(student, reference=reference, inputs=inputs)
    for each in results:
        wanted, got = output_of(reference, each.layer, inputs), output_of(student, each.layer, inputs)
        # float32, and float64 sums in another order
        assert float((wanted - got).double().square().mean()) == pytest.approx(each.error, rel=1e-4)


def output_of(graph: fx.GraphModule, name: str, inputs: Tensor) -> Tensor:
    """What the node gives, behind the ReLU that follows it, by an interpreter of its own."""
    node = next(each for each in graph.graph.nodes if each.name == name)
    after = next(iter(node.users))
    found: list[Tensor] = []
    with torch.no_grad():
        hook = graph.get_submodule(str(node.target)).register_forward_hook(lambda *call: found.append(call[2].clone()))
        graph(inputs)
        hook.remove()
    relu = after.op == "call_module" and isinstance(graph.get_submodule(str(after.target)), nn.ReLU)
    return found[0].relu() if relu else found[0]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("bits", [7, 8])
def test_every_weight_is_its_own_nearest_grid_value_and_the_3_scales_agree(name: str, bits: int) -> None:
    torch.manual_seed(0)
    make, shape, _ = NETWORKS[name]
    student, reference = twins(make(), bits=bits)
    before = {key: tensor.clone() for key, tensor in student.state_dict().items()}
    QUICK(student, reference=reference, inputs=torch.randn(40, *shape))
    assert [key for key in before if not torch.equal(before[key], student.state_dict()[key])]
    assert all(torch.equal(before[key], tensor) for key, tensor in student.state_dict().items() if "_amax" in key)
    for path, layer in student.named_modules():
        if not isinstance(layer, QuantizedWeight) or path == "twice":
            continue
        weight = weight_of(layer)
        amax, highest = layer.quantizer._amax, 2 ** (bits - 1) - 1
        assert torch.equal(channel_amax(weight, axis=layer.axis), amax)  # as training would set it
        codes = (weight.double() * highest / amax.double()).round()
        assert float((weight.double() * highest / amax.double() - codes).abs().max()) < 1e-4  # far from any tie
        assert torch.equal((layer.quantizer(weight).double() * highest / amax.double()).round(), codes)
        point = GridPoint(layer.quantizer)  # what is exported
        assert torch.equal((point(weight).double() * highest / amax.double()).round(), codes)


def test_training_mode_answers_to_the_bit_as_evaluation_for_16_inputs() -> None:
    student, reference, inputs, _ = made("residual")
    QUICK(student, reference=reference, inputs=inputs)
    with torch.no_grad():
        expected = student(inputs[:16])
        assert torch.equal(student.train()(inputs[:16]), expected)  # scales are computed anew from the weights


def test_0_iterations_keep_the_nearest_rounding_and_every_answer() -> None:
    student, reference, inputs, _ = made("separable")
    with torch.no_grad():
        expected = student(inputs)
        results = replace(QUICK, iterations=0)(student, reference=reference, inputs=inputs)
        assert all(each.changed == 0 for each in results)
        # A weight at its channel's largest level is off by one unit in the last place.
        torch.testing.assert_close(student(inputs), expected, rtol=1e-5, atol=1e-6)


def test_1_dead_channel_and_1_pruned_weight_stay_0() -> None:
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    weight[1], weight[2, 3] = 0.0, 0.0
    student, reference = one_layer(weight, bias=1.0)
    (result,) = QUICK(student, reference=reference, inputs=torch.randn(40, 5))
    kept = weight_of(student.get_submodule("0"))
    assert kept[1].tolist() == [0.0] * 5
    assert float(kept[2, 3]) == 0.0
    assert 0 < result.error < float("inf")


def test_seed_0_gives_the_same_bits_twice_and_nothing_but_weights_changes() -> None:
    student, reference, inputs, _ = made("residual")
    again, kept = copy.deepcopy(student), copy.deepcopy(student.state_dict())
    float_kept, inputs_kept = copy.deepcopy(reference.state_dict()), inputs.clone()
    state = torch.get_rng_state()
    first = QUICK(student, reference=reference, inputs=inputs, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    with torch.no_grad():  # as a caller might have it
        assert QUICK(again, reference=reference, inputs=inputs, seed=0) == first
    for key, tensor in student.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key])
        assert key.endswith(".layer.weight") or torch.equal(tensor, kept[key])
    assert list(student.state_dict()) == list(kept)
    assert all(torch.equal(tensor, float_kept[key]) for key, tensor in reference.state_dict().items())
    assert torch.equal(inputs, inputs_kept)
    assert all(each.grad is None for each in (*student.parameters(), *reference.parameters()))


def test_each_of_4_layers_is_told_before_it_is_rounded() -> None:
    student, reference, inputs, _ = made("separable")
    told: list[tuple[int, int, str]] = []
    results = replace(QUICK, iterations=1)(
        student, reference=reference, inputs=inputs, told=lambda *each: told.append(each)
    )
    assert told == [(0, 4, "stem"), (1, 4, "deep"), (2, 4, "point"), (3, 4, "wide")]
    assert [each.layer for each in results] == ["stem", "deep", "point", "wide"]


def test_after_all_3_methods_the_weights_load_into_the_empty_network_and_give_the_same_bits() -> None:
    torch.manual_seed(0)
    network, inputs = Separable().eval(), torch.randn(24, 3, 8, 8)
    scheme = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")
    graph, placement = watched(network)
    assert len(equalized(graph)) == 1  # stem → deep: a ReLU6 is behind deep, the others are transposed or called twice
    reference = copy.deepcopy(graph)
    student = quantized(graph, placement, amax=dict.fromkeys(placement.activations, 3.0), scheme=scheme)
    QUICK(student, reference=reference, inputs=inputs)
    biases_corrected(student, reference=reference, inputs=inputs)
    loaded = empty_quantized(Separable, scheme=scheme, placement=asdict(placement))
    loaded.load_state_dict(student.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(inputs), student.eval()(inputs))


def test_beta_falls_from_20_over_11_to_2_and_h_is_0_one_half_and_1() -> None:
    settings = AdaptiveRounding(iterations=1000, warm_start=0.2)
    assert [round(settings.beta_at(each), 6) for each in (200, 600, 1000)] == [20.0, 11.0, 2.0]
    assert stretched_sigmoid(torch.tensor([-2.5, 0.0, 2.5])).tolist() == [0.0, 0.5, 1.0]  # beyond ln 11 = 2.398
