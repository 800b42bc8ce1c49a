"""The streaming histogram depends on the values alone, and its quantiles are right to one bin."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from calibration.errors import LayerNotFinite
from calibration.histogram import BIN_BITS, MagnitudeHistogram


def gaussian(count: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def histogram_of(*tensors: torch.Tensor) -> MagnitudeHistogram:
    histogram = MagnitudeHistogram()
    for values in tensors:
        histogram.see(values)
    return histogram


def test_the_bins_of_6_values_by_hand() -> None:
    histogram = histogram_of(torch.tensor([0.0, 1.0, -1.0, 1.5, 3.0, -3.999]))
    width = 4.0 / 2**BIN_BITS  # 3.999 lies below 4, the next power of two
    assert histogram.width == width
    counts = histogram.used()
    assert {int(bin): int(counts[bin]) for bin in np.flatnonzero(counts)} == {
        0: 1,
        int(1.0 / width): 2,
        int(1.5 / width): 1,
        int(3.0 / width): 1,
        int(3.999 / width): 1,
    }


@pytest.mark.parametrize("cut", [20, 333, 10_000])
def test_10000_values_in_any_order_and_batches_give_the_same_counts(cut: int) -> None:
    values = gaussian(10_000) * torch.logspace(-3, 3, 10_000)  # grows by a million: the width doubles on the way
    whole = histogram_of(values)
    order = torch.randperm(10_000, generator=torch.Generator().manual_seed(1))
    parts = histogram_of(*torch.split(values[order], cut), values[:0])
    backwards = histogram_of(*torch.split(values.flip(0), cut))
    for other in (parts, backwards):
        assert torch.equal(other.counts, whole.counts)
        assert (other.width, other.extremes.low, other.extremes.high) == (
            whole.width,
            whole.extremes.low,
            whole.extremes.high,
        )


def test_300000_values_are_all_counted_across_the_chunks() -> None:
    assert int(histogram_of(gaussian(300_000)).counts.sum()) == 300_000


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-31, 1e-3, 1.0, 65504.0, 1e30, 3.4e38])
def test_magnitudes_from_the_smallest_to_the_largest_float32_are_counted(scale: float) -> None:
    values = torch.tensor([0.0, 0.25, 0.5, -1.0]) * scale
    histogram = histogram_of(values, values)
    assert int(histogram.counts.sum()) == int(histogram.used().sum()) == 8
    assert histogram.quantile(Fraction(1)) == float(values.abs().max())


@pytest.mark.parametrize("fraction", [Fraction(1, 1000), Fraction(1, 2), Fraction(99, 100), Fraction(9999, 10000)])
def test_quantiles_of_20000_values_are_at_most_one_bin_above_the_sorted_ones(fraction: Fraction) -> None:
    values = gaussian(20_000)
    histogram = histogram_of(*torch.split(values, 3000))
    rank = -(-fraction.numerator * 20_000 // fraction.denominator)
    exact = float(values.abs().sort().values[rank - 1])
    # The edge above a bin is answered: never below the value itself, never more than the bin's width above it.
    assert exact <= histogram.quantile(fraction) <= exact + histogram.width


def test_one_value_of_100_among_10000_gaussian_ones_is_noted_with_its_ratio() -> None:
    values = torch.cat([gaussian(10_000), torch.tensor([100.0])])
    (note,) = histogram_of(values).notes()
    usual = float(values.abs().sort().values[-(-10_001 * 999 // 1000) - 1])
    ratio = float(note.split("×")[0].split()[-1])
    # Three digits are printed, and a bin (128 / 8192 = 0.016) is half a percent of the 99.9th percentile.
    assert ratio == pytest.approx(100.0 / usual, rel=0.01)
    assert note.endswith("the 99.9th percentile")


def test_100000_gaussian_values_are_worth_no_note() -> None:
    assert histogram_of(gaussian(100_000)).notes() == ()


def test_constant_and_dead_are_noted_with_their_value() -> None:
    assert histogram_of(torch.full((9,), 3.0)).notes() == ("constant (always 3.0)",)
    assert histogram_of(torch.tensor([0.0, -0.0])).notes() == ("dead (always 0)",)


def test_negative_zero_leaves_no_sign_in_either_of_2_orders() -> None:
    for values in ([0.0, -0.0], [-0.0, 0.0]):
        extremes = histogram_of(torch.tensor(values)).extremes
        assert (str(extremes.low), str(extremes.high)) == ("0.0", "0.0")


def test_a_transposed_2_by_3_tensor_in_float16_is_counted_like_its_values() -> None:
    values = torch.tensor([[0.5, 1.0, 2.0], [-0.5, 3.0, 0.0]])
    assert torch.equal(histogram_of(values.half().t()).counts, histogram_of(values).counts)


def test_a_float64_that_rounds_up_to_1_is_counted_in_the_bin_of_1() -> None:
    histogram = histogram_of(torch.tensor([1.0 - 2.0**-40], dtype=torch.float64))
    assert histogram.extremes.high == 1.0
    assert int(histogram.used()[-1]) == 1


def test_a_float64_of_1e300_is_refused_because_float32_has_no_such_number() -> None:
    with pytest.raises(LayerNotFinite):
        histogram_of(torch.tensor([1e300], dtype=torch.float64))
