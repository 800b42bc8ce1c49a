"""Corrected biases: by hand, against a slow version, and what must stay."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from calibration.samples import Samples
from pipeline.quantization.bias_correction import biases_corrected
from pipeline.quantization.fake_quant import QuantizedWeight
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.walk import Walk, fitting
from targets.target import Scheme

SCHEME = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="as on AVX2")


class Residual(nn.Module):
    """A depthwise convolution beside a residual path, a linear layer behind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.ReLU()
        self.norm = nn.BatchNorm2d(6)
        self.deep, self.point = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 1)
        self.bare, self.twice, self.head = nn.Conv2d(6, 6, 1, bias=False), nn.Conv2d(6, 6, 1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        x = self.relu(self.point(self.relu(self.deep(x))) + x)
        x = self.relu(self.twice(self.twice(self.bare(x))))
        answer: Tensor = self.head(x.mean((2, 3)))
        return answer


def twins(network: nn.Module, amax: float) -> tuple[fx.GraphModule, fx.GraphModule]:
    """(quantized, float), every activation in the same range."""
    graph, placement = watched(network)
    reference = copy.deepcopy(graph)
    return quantized(graph, placement, amax=dict.fromkeys(placement.activations, amax), scheme=SCHEME).eval(), reference


def residual_twins() -> tuple[fx.GraphModule, fx.GraphModule]:
    torch.manual_seed(0)
    return twins(Residual().eval(), 3.0)


def outputs(graph: fx.GraphModule, inputs: Tensor) -> dict[str, Tensor]:
    """The outputs of every convolution and linear layer, by hooks."""
    found: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda _m, _i, output, name=name: found.__setitem__(name, output.detach().clone()))
        for name, layer in graph.named_children()
        if isinstance(layer, (QuantizedWeight, nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        graph(inputs)
    for hook in hooks:
        hook.remove()
    return found


def channel_means(output: Tensor) -> Tensor:
    return output.double().mean([axis for axis in range(output.dim()) if axis != 1])


def cut_means(wanted: Tensor, given: Tensor, moved: Tensor) -> Tensor:
    """The mean differences of `wanted` and `moved`, cut where those of `wanted` and `given` are wide: the slow way."""
    first, late = ((wanted - other).double().movedim(1, 0).flatten(1) for other in (given, moved))  # (C, values)
    bound = torch.full((len(first), 1), math.inf, dtype=torch.float64)
    for _ in range(6):
        bound = 3 * first.clamp(-bound, bound).square().mean(1, keepdim=True).sqrt()
    return late.clamp(-bound, bound).mean(1)


def behind(outputs: dict[str, Tensor], name: str) -> Tensor:
    """What later layers see of a layer's output: two of them have a ReLU that reads nothing else."""
    return outputs[name].relu() if name in ("stem", "deep") else outputs[name]


def bias_of(graph: fx.GraphModule, name: str) -> Any:
    layer = graph.get_submodule(name)
    bias: Any = layer.layer.bias if isinstance(layer, QuantizedWeight) else layer.bias
    return bias.detach()


def test_a_weight_of_0_4_that_is_rounded_to_0_gives_its_bias_0_4_times_the_mean_input_of_2() -> None:
    network = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1))
    network[0].weight.data, network[0].bias.data = torch.tensor([[63.0, 0.4]]), torch.tensor([1.0])
    network[2].weight.data, network[2].bias.data = torch.tensor([[2.0]]), torch.tensor([0.0])
    # The ranges make the grids the integers: −127..127 before the first layer, 0..127.5 in halves behind its ReLU.
    graph, placement = watched(network)
    reference = copy.deepcopy(graph)
    amax = {name: 127.5 if positive else 127.0 for name, positive in placement.activations.items()}
    student = quantized(graph, placement, amax=amax, scheme=SCHEME).eval()
    first, second = biases_corrected(student, reference=reference, inputs=torch.tensor([[0.0, 1.0], [0.0, 3.0]]))
    assert float(bias_of(student, "0")) == pytest.approx(1.8, rel=1e-6)  # 1 + 0.4 · (1 + 3) / 2
    assert first.shift_rms == pytest.approx(0.8, rel=1e-6)
    # Both samples now give 1.8, which the halves round to 2; the float mean is 1.8: 2 · (1.8 − 2) = −0.4.
    assert float(bias_of(student, "2")) == pytest.approx(-0.4, rel=1e-6)
    assert (first.layer, second.layer) == ("_0", "_2")
    assert bias_of(reference, "0").tolist() == [1.0]


def test_of_all_4_layers_the_differences_behind_their_relu_average_0_afterwards_and_did_not_before() -> None:
    student, reference = residual_twins()
    inputs = 0.7 + torch.randn(48, 3, 8, 8)
    biases = {name: bias_of(student, name).clone() for name in ("stem", "deep", "point", "head")}
    expected = outputs(reference, inputs)
    corrected = biases_corrected(student, reference=reference, inputs=inputs)
    after = outputs(student, inputs)
    assert [each.layer for each in corrected] == list(biases)
    for name, bias in biases.items():
        shift = (bias_of(student, name) - bias).reshape(1, -1, *[1] * (after[name].dim() - 2))
        wanted, now = behind(expected, name), behind(after, name)
        given = behind({name: after[name] - shift}, name)
        # Means of float32 sums where there is no function behind; else what three steps of Newton's method leave.
        assert float(cut_means(wanted, given, now).abs().max()) < 2e-5
        assert float(cut_means(wanted, given, given).square().mean().sqrt()) > 1e-4


def test_the_biases_are_those_of_a_version_that_halves_an_interval_30_times_for_each_of_4_layers() -> None:
    student, reference = residual_twins()
    for graph in (student, reference):
        bias_of(graph, "deep").fill_(0.5)  # no channel is closed to all but a few values
    slow, inputs = copy.deepcopy(student), torch.randn(20, 3, 8, 8)
    for name in ("stem", "deep", "point", "head"):
        wanted, output = behind(outputs(reference, inputs), name), outputs(slow, inputs)[name]
        given = behind({name: output}, name)
        low, high = (torch.full((output.shape[1],), end, dtype=torch.float64) for end in (-1.0, 1.0))
        for _ in range(30):
            shift = (low + high) / 2
            moved = behind({name: output + shift.float().reshape(1, -1, *[1] * (output.dim() - 2))}, name)
            above = cut_means(wanted, given, moved) < 0  # the mean grows with the shift
            low, high = torch.where(above, low, shift), torch.where(above, shift, high)
        bias_of(slow, name).add_(((low + high) / 2).float())
    biases_corrected(student, reference=reference, inputs=Samples(inputs, origin="the test"), batch=7)
    for name in ("stem", "deep", "point", "head"):
        # Both end within 1e-4 of the bias sought; a value at the middle of two codes may then fall elsewhere.
        torch.testing.assert_close(bias_of(student, name), bias_of(slow, name), rtol=0, atol=3e-4)


def test_1_of_100_values_that_a_range_cuts_off_does_not_move_the_99_others() -> None:
    network = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    network[0].weight.data, network[0].bias.data = torch.tensor([[63.0, 0.4]]), torch.tensor([0.0])
    student, reference = twins(network.eval(), 127.0)
    inputs = torch.tensor([0.0, 1.0]).repeat(100, 1)
    inputs[7] = torch.tensor([400.0, 1.0])  # 273 · 63 = 17 199 are cut off at 127
    biases_corrected(student, reference=reference, inputs=inputs)
    # The others miss 0.4; their mean with the one would be 172.4.
    assert float(bias_of(student, "0")) == pytest.approx(0.4, abs=0.3)


def test_a_channel_that_is_below_0_for_all_16_inputs_keeps_its_bias() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    network[0].weight.data = torch.tensor([[0.9, 0.013], [0.9, 0.013]])
    network[0].bias.data = torch.tensor([-50.0, 0.3])
    student, reference = twins(network.eval(), 3.0)
    first, _ = biases_corrected(student, reference=reference, inputs=torch.rand(16, 2))
    assert float(bias_of(student, "0")[0]) == -50.0
    assert first.shift_rms > 0  # the other one has moved


def test_weights_ranges_modes_and_1_shared_layer_stay_and_no_tensor_is_added() -> None:
    student, reference = residual_twins()
    student.train()
    kept, float_kept = copy.deepcopy(student.state_dict()), copy.deepcopy(reference.state_dict())
    inputs, state = torch.randn(8, 3, 8, 8), torch.get_rng_state()
    biases_corrected(student, reference=reference, inputs=inputs)
    assert list(student.state_dict()) == list(kept)
    changed = [name for name, tensor in student.state_dict().items() if not torch.equal(tensor, kept[name])]
    assert changed == ["stem.layer.bias", "deep.layer.bias", "point.layer.bias", "head.bias"]
    assert all(torch.equal(tensor, float_kept[name]) for name, tensor in reference.state_dict().items())
    assert student.training and student.stem.training  # type: ignore[union-attr]
    assert torch.equal(torch.get_rng_state(), state)


def test_each_of_4_layers_is_told_before_it_is_corrected() -> None:
    student, reference = residual_twins()
    told: list[tuple[int, int, str]] = []
    biases_corrected(student, reference=reference, inputs=torch.randn(4, 3, 8, 8), told=lambda *each: told.append(each))
    assert told == [(0, 4, "stem"), (1, 4, "deep"), (2, 4, "point"), (3, 4, "head")]


def test_a_reference_of_another_network_or_with_1_shared_weight_is_refused() -> None:
    student, reference = residual_twins()
    other = watched(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)))[0]
    with pytest.raises(ValueError, match=r"differ in their layers"):
        biases_corrected(student, reference=other, inputs=torch.randn(1, 3, 8, 8))
    reference.head = student.head
    with pytest.raises(ValueError, match=r"shares weights"):
        biases_corrected(student, reference=reference, inputs=torch.randn(1, 3, 8, 8))


def test_of_40_samples_those_are_walked_whose_tensors_fit_and_never_below_16() -> None:
    _, reference = residual_twins()
    samples = Samples(torch.arange(40.0).reshape(40, 1, 1, 1).expand(40, 3, 8, 8).contiguous(), origin="ramp")
    alive = Walk(reference, Samples(samples.inputs[:1], origin="one")).most_bytes()
    # 3 tensors of 6 channels live at once where the residual branch is open, 8 × 8 float32 each
    assert 2 * 6 * 8 * 8 * 4 <= alive <= 4 * 6 * 8 * 8 * 4
    assert fitting(reference, samples, most_bytes=40 * alive) is samples
    some = fitting(reference, samples, most_bytes=20 * alive)
    assert [some.index(place) for place in range(len(some))] == list(range(0, 40, 2))
    assert len(fitting(reference, samples, most_bytes=alive)) == 16
