"""One fake quantizer with a zero point: by hand, against slow versions, and in the place of any other."""

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.quantization.fake_quant import (
    GridPoint,
    activation_quantizer,
    affine_quantizer,
    exportable,
    has_quantizers,
    is_activation_point,
    switched_off,
)
from pipeline.quantization.learned_steps import LearnedSteps


def test_a_range_of_minus_1_to_4_1_takes_all_256_codes_and_half_of_them_without_a_zero_point() -> None:
    quantizer = affine_quantizer(span=5.1, zero=50)  # s = 0.02, −1 is code 0, 4.1 code 255
    values = torch.linspace(-1.0, 4.1, 10_001)
    assert len(quantizer(values).unique()) == 256
    assert len(activation_quantizer(amax=4.1, unsigned=False)(values).unique()) == 127 + 31 + 1  # −1 is code −31
    found = quantizer(torch.tensor([-9.0, -1.0, 0.0, 0.011, 0.02, 4.1, 9.0]))
    expected = torch.tensor([-1.0, -1.0, 0.0, 0.02, 0.02, 4.1, 4.1])
    # Both the code and the shift are float32 multiples of s up to 5.1: 3 · 2⁻²³ each.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_0_stays_exactly_0_at_each_of_256_zero_points_in_torch_and_on_the_grid() -> None:
    spans = torch.rand(256, generator=torch.Generator().manual_seed(0)) * 30 + 1e-3
    for zero, span in enumerate(spans.tolist()):
        quantizer = affine_quantizer(span=span, zero=zero)
        assert float(quantizer(torch.zeros(1))) == 0.0
        assert float(GridPoint(quantizer)(torch.zeros(1))) == 0.0


@pytest.mark.parametrize("zero", [0, 1, 128, 240, 255])
def test_10_000_values_lie_where_the_slow_version_puts_them(zero: int) -> None:
    values = 3 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    quantizer, scale = affine_quantizer(span=5.0, zero=zero), 5.0 / 255
    place = values.double() / scale
    clear = (place - place.floor() - 0.5).abs() > 1e-3  # elsewhere it hangs on the last bits
    assert int(clear.sum()) > 9_900
    slow = (((place.round() + zero).clamp(0, 255) - zero) * scale).float()
    # A code and the shift are float32 numbers up to 5, half a unit of 4.8e-7 off each.
    torch.testing.assert_close(quantizer(values)[clear], slow[clear], rtol=0, atol=1e-6)
    point = GridPoint(quantizer)
    torch.testing.assert_close(point(values)[clear], slow[clear], rtol=0, atol=1e-6)
    assert (point.lowest, point.highest, int(point.zero)) == (-zero, 255 - zero, zero)  # type: ignore[arg-type]


def test_the_gradient_is_1_in_the_range_and_0_beyond_its_2_ends() -> None:
    values = torch.tensor([-9.0, -1.1, -0.9, 0.0, 4.0, 4.2, 9.0], requires_grad=True)
    affine_quantizer(span=5.1, zero=50)(values).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_bfloat16_values_get_the_codes_that_they_get_in_float32() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    quantizer = affine_quantizer(span=5.1, zero=50)
    found = quantizer(values)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, quantizer(values.float()).bfloat16())
    assert len(quantizer(values.float()).unique()) > 150  # of 256 codes, in 8 digits


def test_a_dead_tensor_gives_0() -> None:
    assert torch.equal(affine_quantizer(span=0.0, zero=7)(torch.zeros(3)), torch.zeros(3))


@pytest.mark.parametrize("zero", [-1, 256])
def test_2_zero_points_that_are_no_codes_are_refused(zero: int) -> None:
    with pytest.raises(ValueError, match=r"one of the codes 0\.\.255"):
        affine_quantizer(span=1.0, zero=zero)


def test_it_is_switched_off_and_on_and_exported_like_any_other_1() -> None:
    network = nn.Sequential(affine_quantizer(span=5.1, zero=50))
    values = torch.linspace(-2, 6, 100)
    expected = network(values)
    with switched_off([network[0]]):
        assert torch.equal(network(values), values)
    assert torch.equal(network(values), expected)
    assert has_quantizers(network)
    exportable(network)
    assert not has_quantizers(network)
    assert is_activation_point(network[0])


def test_the_gradient_of_the_step_of_1200_numbers_is_that_of_autograd_through_the_slow_version() -> None:
    torch.manual_seed(0)
    values, weights, zero, sharing = torch.randn(6, 200), torch.randn(6, 200), 90, 200
    steps = LearnedSteps(affine_quantizer(span=3.0, zero=zero))
    fast, slow = values.clone().requires_grad_(), values.clone().requires_grad_()
    step = torch.tensor(3.0 / 255, requires_grad=True)
    (steps(fast) * weights).sum().backward()
    scaled = step * (factor := (sharing * 255) ** -0.5) + (step * (1 - factor)).detach()
    clipped = (slow / scaled).clamp(-zero, 255 - zero)
    loss: Any = ((clipped + (clipped.round() - clipped).detach()) * scaled * weights).sum()
    loss.backward()
    assert fast.grad is not None and slow.grad is not None
    assert steps.size.grad is not None and step.grad is not None
    place = values / step.detach()
    near = torch.minimum((place + zero).abs(), (place - 255 + zero).abs()) < 1e-2  # on a border within float32
    assert int(near.sum()) < 10
    torch.testing.assert_close(fast.grad[~near], slow.grad[~near], rtol=1e-5, atol=1e-6)
    # Sums of 1 200 float32 numbers up to 255 in another order.
    torch.testing.assert_close(steps.size.grad * steps.unit / 255, step.grad.flatten(), rtol=1e-4, atol=1e-3)
