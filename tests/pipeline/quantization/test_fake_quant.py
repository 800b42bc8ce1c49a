"""The fake quantizers and the grid points that they become."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.quantization.fake_quant import (
    GridPoint,
    QuantizedWeight,
    activation_quantizer,
    channel_amax,
    exportable,
    has_quantizers,
    weight_quantizer,
)


def on_the_grid(values: Tensor, scale: Tensor, *, lowest: int, highest: int) -> Tensor:
    """The slow obvious version, in float64."""
    return ((values.double() / scale.double()).round().clamp(lowest, highest) * scale.double()).float()


def away_from_ties(values: Tensor, scale: Tensor) -> Tensor:
    """Values whose place on the grid does not hang on the last bit of a division."""
    place = values.double() / scale.double()
    return (place - place.floor() - 0.5).abs() > 1e-4


@pytest.mark.parametrize(("unsigned", "lowest", "highest"), [(True, 0, 255), (False, -128, 127)])
def test_10_000_activations_lie_on_a_grid_of_256_and_the_grid_point_agrees(
    unsigned: bool, lowest: int, highest: int
) -> None:
    torch.manual_seed(0)
    values = 2 * torch.randn(10_000)  # a range of 3: an eighth of them saturate
    quantizer = activation_quantizer(amax=3.0, unsigned=unsigned)
    point = GridPoint(quantizer)
    scale = torch.tensor(3.0 / highest)
    clear = away_from_ties(values, scale)
    assert int(clear.sum()) > 9_900
    expected = on_the_grid(values, scale, lowest=lowest, highest=highest)[clear]
    # s is 3/255 in float32 in one and 1/(255/3) in the other: two units in the last place of 3.
    inputs = values.clamp_min(0) if unsigned else values  # the fake quantizer refuses negatives when unsigned
    torch.testing.assert_close(quantizer(inputs)[clear], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(point(values)[clear], expected, rtol=0, atol=1e-6)
    codes = (point(values) / scale).round()
    assert int(codes.min()) == lowest
    assert int(codes.max()) == highest


@pytest.mark.parametrize(("bits", "highest"), [(8, 127), (7, 63)])
def test_a_weight_of_3_channels_has_3_scales_and_never_reaches_below_minus_the_highest(bits: int, highest: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 4, 3, 3) * torch.tensor([1.0, 10.0, 0.01]).reshape(3, 1, 1, 1)
    quantizer = weight_quantizer(weight, bits=bits, axis=0)
    amax = weight.abs().flatten(1).max(1).values
    scale = (amax / highest).reshape(3, 1, 1, 1)
    expected = on_the_grid(weight, scale, lowest=-highest, highest=highest)
    clear = away_from_ties(weight, scale)
    point = GridPoint(quantizer)
    torch.testing.assert_close(quantizer(weight)[clear], expected[clear], rtol=1e-6, atol=0)
    torch.testing.assert_close(point(weight)[clear], expected[clear], rtol=1e-6, atol=0)
    assert point.scale.shape == (3,)
    codes = (point(3 * weight) / scale).round()  # beyond the range on both sides
    assert int(codes.min()) == -highest
    assert int(codes.max()) == highest


def test_a_transposed_convolution_has_a_scale_for_each_of_its_5_outputs() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 5, 2)
    assert channel_amax(layer.weight, axis=1).shape == (1, 5, 1, 1)
    quantized = QuantizedWeight(layer, bits=8).eval()
    inputs = torch.randn(2, 3, 4, 4)
    # 8-bit weights: each is off by half a step, 1/254 of the largest of its channel.
    with torch.no_grad():
        assert float((quantized(inputs) - layer(inputs)).abs().max()) < 0.05


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), torch.ones(1, 4, 8, 8)),
        (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), torch.ones(1, 4, 8, 8)),
        (nn.Conv1d(4, 6, 3, dilation=2, bias=False), torch.ones(1, 4, 8)),
        (nn.Linear(4, 6), torch.ones(1, 4)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), torch.ones(1, 4, 8, 8)),
    ],
)
def test_5_kinds_of_layers_with_weights_already_on_the_grid_answer_as_before(layer: nn.Module, inputs: Tensor) -> None:
    torch.manual_seed(0)
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    with torch.no_grad():
        weight = layer.weight
        assert isinstance(weight, Tensor)
        weight.copy_(torch.randint(-127, 128, weight.shape) / 127.0)
        for channel in weight.movedim(axis, 0):  # a view of each
            channel[(0,) * channel.dim()] = 1.0  # the largest of its channel
    # 1/127 is not a float32: each of up to 36 products is off by one unit in the last place.
    torch.testing.assert_close(QuantizedWeight(layer, bits=8).eval()(inputs), layer(inputs), rtol=1e-5, atol=1e-5)


def test_while_training_the_scale_follows_a_weight_that_doubles_and_in_evaluation_it_stays() -> None:
    layer = nn.Linear(4, 2)
    quantized = QuantizedWeight(layer, bits=8)
    before = quantized.quantizer._amax.clone()
    with torch.no_grad():
        layer.weight.mul_(2)
    quantized.eval()(torch.ones(1, 4))
    assert torch.equal(quantized.quantizer._amax, before)
    quantized.train()(torch.ones(1, 4))
    assert torch.equal(quantized.quantizer._amax, 2 * before)


@pytest.mark.parametrize(("bits", "paired"), [(7, False), (8, False), (8, True)])
def test_the_scale_kept_when_training_ends_is_that_of_weights_that_the_last_step_has_moved(
    bits: int, paired: bool
) -> None:
    torch.manual_seed(0)
    layer = QuantizedWeight(nn.Linear(16, 4), bits=bits, sums_in_16_bits=paired)
    layer(torch.randn(2, 16))
    with torch.no_grad():
        layer.layer.weight.mul_(1.2)  # the last step of an optimizer
    layer.eval()
    kept = layer.quantizer._amax.clone()
    assert torch.equal(kept, layer.least_amax())
    with torch.no_grad():
        layer.layer.weight.mul_(1.2)  # what is changed in evaluation, by hand, moves no scale
    layer.eval()
    assert torch.equal(layer.quantizer._amax, kept)


def test_the_gradient_is_1_inside_the_range_and_0_outside() -> None:
    values = torch.tensor([-5.0, -0.7, 0.0, 0.7, 5.0], requires_grad=True)
    activation_quantizer(amax=1.0, unsigned=False)(values).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("weight", [torch.zeros(2, 3), torch.full((2, 3), 1e-30)])
def test_a_weight_of_6_zeros_or_next_to_zeros_gives_zeros_and_no_nan(weight: Tensor) -> None:
    quantizer = weight_quantizer(weight, bits=8, axis=0)
    assert torch.equal(quantizer(weight), torch.zeros(2, 3))
    assert torch.equal(GridPoint(quantizer)(weight), torch.zeros(2, 3))


def test_a_dead_activation_gives_0() -> None:
    assert torch.equal(activation_quantizer(amax=0.0, unsigned=True)(torch.zeros(3)), torch.zeros(3))


def test_loading_a_state_sets_the_1_range(caplog: pytest.LogCaptureFixture) -> None:
    kept, empty = activation_quantizer(amax=3.0, unsigned=True), activation_quantizer(amax=1.0, unsigned=True)
    empty.load_state_dict(kept.state_dict(), strict=True)
    assert float(empty._amax) == 3.0  # type: ignore[arg-type]
    assert caplog.records == []


def test_exportable_leaves_0_fake_quantizers() -> None:
    network = nn.Sequential(QuantizedWeight(nn.Linear(3, 2), bits=7), activation_quantizer(amax=1.0, unsigned=False))
    assert has_quantizers(network)
    assert not has_quantizers(exportable(network))
    assert [type(each).__name__ for each in network.modules()].count("GridPoint") == 2
