"""Both ends of a range: figures on paper, a slow search over the values themselves, and what reads the tensor."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from calibration.histogram import MagnitudeHistogram
from calibration.observe import observe
from calibration.observers.entropy import Entropy
from calibration.observers.minmax import MinMax
from calibration.observers.mse import MeanSquaredError
from calibration.observers.percentile import Percentile
from calibration.ranges import Range
from calibration.samples import Samples
from calibration.scale import SMALLEST_SCALE, affine_codes
from calibration.two_ended import ends_of_least_error

torch.set_num_threads(1)
LEAKY = nn.LeakyReLU(0.1)


def gaussian(count: int, *, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def ends_of(values: Tensor, behind: Callable[[Tensor], Tensor] | None = None) -> Range:
    watch = MeanSquaredError().watch()
    for part in torch.split(values, 999):
        watch.see(part)
    return watch.range(affine=True, behind=behind)


def squared_error(values: Tensor, low: float, high: float, behind: Callable[[Tensor], Tensor] | None) -> float:
    """What the 256 codes do to the values themselves, in float64."""
    values, step = values.double(), (high - low) / 255
    zero = round(-low / step)
    quantized = ((values / step).round() + zero).clamp(0, 255).sub(zero) * step
    function = behind or nn.Identity()
    return float((function(quantized) - function(values)).square().mean())


# ── codes ──


@pytest.mark.parametrize(
    ("span", "scale", "zero"),
    [
        (Range(-1.0, 4.1), 0.02, 50),
        (Range(-1.005, 4.095), 0.02, 50),  # −1.005 lies between codes 0 and −1: nudged
        (Range(0.5, 5.1), 0.02, 0),  # zero is a code, so the range begins there
        (Range(-5.1, -0.5), 0.02, 255),
        (Range(0.0, 0.0), SMALLEST_SCALE, 0),
    ],
)
def test_5_ranges_and_their_codes_by_hand(span: Range, scale: float, zero: int) -> None:
    codes = affine_codes(span)
    assert codes.scale == pytest.approx(scale, rel=1e-12)  # two roundings of float64
    assert codes.zero == zero


def test_1000_ranges_lie_within_half_a_step_of_their_codes() -> None:
    random = np.random.default_rng(0)
    for low, high in random.exponential(size=(1000, 2)) * [-1, 1]:
        codes = affine_codes(Range(low, high))
        assert isinstance(codes.zero, int) and 0 <= codes.zero <= 255
        # 1e-9: the roundings of float64 in values of up to ten
        assert abs(codes.scale * (0 - codes.zero) - low) <= codes.scale / 2 + 1e-9
        assert abs(codes.scale * (255 - codes.zero) - high) <= codes.scale / 2 + 1e-9


# ── ends of least error ──


def test_256_values_on_a_grid_of_256_codes_keep_their_whole_range() -> None:
    values = np.arange(-50.0, 206.0) * 0.02
    span = ends_of_least_error(values, np.ones(256))
    assert span == Range(float(values.min()), float(values.max()))


def test_one_value_of_minus_50_among_10000_gaussian_ones_is_cut_at_49_and_behind_a_leaky_relu_at_29() -> None:
    values = torch.cat([gaussian(10_000).clamp(-4, 4), torch.tensor([-50.0, 4.0])])
    # By hand: rounding costs ((4 + c)/255)²/12 each, the far value (50 − c)². The derivative is 0 where
    #   50 − c = 10 002 · (4 + c) / (12 · 255²)  →  c = 49.3
    # A LeakyReLU of 0.1 leaves a hundredth of both below zero, which half of the values are:
    #   0.01 · (50 − c) = 0.505 · 10 002 · (4 + c) / (12 · 255²)  →  c = 28.8
    # Rounding errors are not quite uniform where a step is a fifth of the deviation, and ends are tried 2 % apart.
    assert ends_of(values).low == pytest.approx(-49.3, abs=1.0)
    assert ends_of(values, LEAKY).low == pytest.approx(-28.8, abs=2.0)
    assert ends_of(values, LEAKY).high == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize("function", [None, LEAKY, nn.SiLU(), nn.Hardswish(), nn.GELU()], ids=str)
@pytest.mark.parametrize("kind", ["gaussian", "lopsided", "heavy tails"])
def test_the_error_is_within_3_percent_of_a_search_over_1600_pairs_of_ends(
    kind: str, function: nn.Module | None
) -> None:
    values = {
        "gaussian": 3 * gaussian(20_000),
        "lopsided": nn.functional.leaky_relu(3 * gaussian(20_000) - 2, 0.1),
        "heavy tails": gaussian(20_000) * gaussian(20_000, seed=1).square(),
    }[kind]
    low, high = float(values.min()), float(values.max())
    shares = np.geomspace(1.0, 0.03, 40)
    least = min(squared_error(values, a * low, b * high, function) for a in shares for b in shares)
    span = ends_of(values, function)
    # Ends are tried 2 % apart, and the error jitters with the few values beyond them.
    assert squared_error(values, span.low, span.high, function) <= 1.03 * least


def test_values_that_are_never_negative_begin_at_0() -> None:
    assert ends_of(gaussian(5000).abs()).low == 0.0
    assert ends_of(-gaussian(5000).abs()).high == 0.0


def test_a_function_that_works_in_place_changes_none_of_the_100_values() -> None:
    values = np.linspace(-3.0, 5.0, 100)
    before = values.copy()
    in_place = ends_of_least_error(values, np.ones(100), behind=nn.LeakyReLU(0.1, inplace=True))
    assert np.array_equal(values, before)
    assert in_place == ends_of_least_error(values, np.ones(100), behind=LEAKY)


# ── the methods, with a zero point ──


def test_minmax_and_a_percentile_of_100_give_the_same_2_ends_for_all_codes() -> None:
    for observer in (MinMax(), Percentile(100.0)):
        watch = observer.watch()
        watch.see(torch.tensor([-0.5, 3.0]))
        assert watch.range(affine=True) == watch.range() == Range(-0.5, 3.0)


def test_entropy_gives_the_longer_side_of_minus_1_to_3_its_192_codes() -> None:
    values = torch.cat([gaussian(40_000).abs().clamp(max=3.0), -gaussian(40_000, seed=1).abs().clamp(max=1.0)])
    histogram = MagnitudeHistogram()
    histogram.see(torch.cat([values, torch.tensor([-1.0, 3.0])]))
    # With more levels a bin of the histogram loses less, so the clip of least divergence is no narrower.
    assert 0.5 < Entropy().clip(histogram) <= Entropy().clip(histogram, affine=True) <= 3.0


def test_the_histogram_counts_6_values_on_both_sides_and_doubles_its_width_on_both() -> None:
    histogram = MagnitudeHistogram()
    histogram.see(torch.tensor([-0.5, 0.0, 0.5, 0.5]))
    histogram.see(torch.tensor([-100.0, 100.0]))
    values, counts = histogram.values()
    assert counts.tolist() == [1, 1, 1, 2, 1]
    # A bin is 128/8192 wide, and the last one's centre lies beyond the largest value.
    np.testing.assert_allclose(values, [-100, -0.5, 0, 0.5, 100], rtol=0, atol=128 / 8192)
    histogram.see(torch.tensor([-1e6]))  # now a bin is 2²⁰/8192 = 128 wide: all but the last fall into that of 0
    assert histogram.values()[1].tolist() == [1, 6]
    assert histogram.counts.sum() == 7


def test_observe_hands_1_function_to_the_point_of_its_name() -> None:
    network = nn.Sequential(nn.Identity(), nn.Identity())
    values = torch.cat([gaussian(10_000).clamp(-4, 4), torch.tensor([-50.0, 4.0])])
    samples = Samples(values.reshape(-1, 1).numpy(), origin="random")
    points = {"0": MeanSquaredError(), "1": MeanSquaredError()}
    ranges = observe(network, samples, points=points, affine=True, behind={"1": LEAKY})
    assert ranges["0"] == ends_of(values)
    assert ranges["1"] == ends_of(values, LEAKY)
