"""Scales by hand."""

import math

import pytest
import torch

from calibration.errors import LayerNotFinite
from calibration.ranges import Range
from calibration.scale import SMALLEST_SCALE, channel_amax, channel_scales, largest_code, scale_of, symmetric_amax


@pytest.mark.parametrize(
    ("bits", "signed", "code"), [(8, True, 127), (7, True, 63), (8, False, 255), (7, False, 127), (2, True, 1)]
)
def test_the_largest_code_of_8_bits_is_127_signed_and_255_unsigned(bits: int, signed: bool, code: int) -> None:
    assert largest_code(bits=bits, signed=signed) == code
    # Exact: a quotient of two floats that hold these integers, rounded once.
    assert scale_of(Range(0.0, 3.0), bits=bits, signed=signed) == 3.0 / code


def test_the_larger_end_of_minus_4_and_3_sets_the_scale_to_4_over_127() -> None:
    assert symmetric_amax(Range(-4.0, 3.0)) == 4.0
    assert scale_of(Range(-4.0, 3.0)) == 4.0 / 127


def test_a_dead_tensor_has_the_scale_2_to_the_minus_24() -> None:
    for signed in (True, False):
        assert scale_of(Range(0.0, 0.0), signed=signed) == SMALLEST_SCALE == 2.0**-24
    # Every float type holds it, and its inverse is finite.
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert float(torch.tensor(SMALLEST_SCALE, dtype=dtype)) == SMALLEST_SCALE
    assert math.isfinite(1 / SMALLEST_SCALE)


def test_a_constant_of_5_is_held_by_code_127() -> None:
    assert round(5.0 / scale_of(Range(5.0, 5.0))) == 127
    assert round(-5.0 / scale_of(Range(-5.0, -5.0))) == -127


def test_an_unsigned_scale_for_minus_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"begins at -1\.0 has no unsigned scale"):
        scale_of(Range(-1.0, 1.0), signed=False)


def test_integers_of_1_bit_are_refused() -> None:
    with pytest.raises(ValueError, match="not of 1"):
        largest_code(bits=1, signed=True)


def test_channels_of_a_2_by_3_weight_along_both_axes_by_hand() -> None:
    weight = torch.tensor([[1.0, -5.0, 2.0], [-3.0, 4.0, 0.0]])
    assert channel_amax(weight, axis=0).tolist() == [5.0, 4.0]
    assert channel_amax(weight, axis=1).tolist() == [3.0, 5.0, 2.0]
    assert channel_amax(weight[0], axis=0).tolist() == [1.0, 5.0, 2.0]


def test_a_convolution_of_4_channels_has_4_maxima_and_gradient_is_not_followed() -> None:
    weight = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    slow = [max(abs(value) for value in weight[channel].flatten().tolist()) for channel in range(4)]
    amax = channel_amax(weight)
    assert amax.tolist() == slow  # exact: a maximum is one of the values
    assert not amax.requires_grad


def test_a_channel_of_zeros_gets_the_smallest_scale_and_its_neighbour_63rds_of_its_own() -> None:
    scales = channel_scales(torch.tensor([[0.0, 0.0], [63.0, -1.0]]), bits=7)
    assert scales.tolist() == [SMALLEST_SCALE, 1.0]


def test_nan_in_channel_1_of_3_is_refused_by_name() -> None:
    weight = torch.ones(3, 2)
    weight[1, 0] = torch.nan
    with pytest.raises(LayerNotFinite, match="channel 1 of 3"):
        channel_amax(weight)
