"""Each way to choose a range, against figures on paper or a slow obvious version."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from calibration.histogram import MagnitudeHistogram
from calibration.observers.entropy import Entropy, divergences
from calibration.observers.minmax import MinMax
from calibration.observers.mse import MeanSquaredError
from calibration.observers.percentile import Percentile
from calibration.ranges import Range

torch.set_num_threads(1)


def gaussian(count: int, *, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def range_of(observer: MinMax | Percentile | Entropy | MeanSquaredError, *tensors: Tensor) -> Range:
    watch = observer.watch()
    for values in tensors:
        watch.see(values)
    return watch.range()


def squared_error(values: Tensor, clip: float, *, code: int) -> float:
    """What quantization does to the values themselves, in float64."""
    step = clip / code
    values = values.double()
    return float((values - (values / step).round().clamp(-code, code) * step).square().mean())


# ── minmax ──


def test_minmax_of_two_tensors_goes_from_minus_2_to_7() -> None:
    assert range_of(MinMax(), torch.tensor([1.0, 7.0]), torch.tensor([[-2.0]])) == Range(-2.0, 7.0)


# ── percentile ──


def test_percentile_50_of_0_to_100_is_50() -> None:
    span = range_of(Percentile(50.0), torch.arange(101.0))
    # The 51st of 101 values is 50; the bin that holds it is 128 / 8192 wide, and its upper edge is answered.
    assert 50.0 <= span.high <= 50.0 + 128 / 8192
    assert span.low == 0.0


def test_percentile_100_is_the_full_range() -> None:
    values = gaussian(1000)
    assert range_of(Percentile(100.0), values) == range_of(MinMax(), values)


def test_percentile_99_clips_both_ends_of_100_values_at_the_same_magnitude() -> None:
    values = torch.cat([torch.arange(1.0, 99.0), torch.tensor([-98.5, -500.0])])  # magnitudes 1..98, 98.5, 500
    span = range_of(Percentile(99.0), values)
    assert span.high == 98.0  # the largest positive value is inside already
    assert -98.5 - 512 / 8192 <= span.low <= -98.5  # one bin


@pytest.mark.parametrize("percent", [0.0, -1.0, 100.1, math.nan])
def test_4_impossible_percentages_are_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="a percentage lies above 0 and up to 100"):
        Percentile(percent)


# ── mean squared error ──


def test_mse_clips_below_one_outlier_of_50_among_10000_gaussian_values() -> None:
    span = range_of(MeanSquaredError(), gaussian(10_000), torch.tensor([50.0]))
    # By hand: rounding costs (c/127)²/12 each, the outlier (50 − c)² / 10 001; the derivative is 0 near c = 45.
    # c · 2 / (12 · 127²) = 2 (50 − c) / 10 001  →  c = 50 / (1 + 10 001 / (12 · 127²)) = 47.5
    assert span.high == pytest.approx(47.5, abs=1.0)  # rounding errors are not quite uniform: 1 is 2 %
    assert span.low == float(gaussian(10_000).min())


@pytest.mark.parametrize("bits", [4, 7, 8])
@pytest.mark.parametrize("kind", ["gaussian", "relu", "laplace", "uniform", "one outlier", "sparse"])
def test_mse_is_within_1_percent_of_a_search_over_600_clips_on_the_values_themselves(kind: str, bits: int) -> None:
    values = {
        "gaussian": gaussian(5000),
        "relu": gaussian(5000).relu(),
        "laplace": gaussian(5000) * gaussian(5000, seed=1),  # heavier tails than a Laplace distribution
        "uniform": torch.rand(5000, generator=torch.Generator().manual_seed(0)) - 0.5,
        "one outlier": torch.cat([gaussian(5000), torch.tensor([-30.0])]),
        "sparse": gaussian(5000).relu() * (gaussian(5000, seed=1) > 1.0),  # 8 % are not 0
    }[kind]
    code = 2**bits - 1 if bool((values >= 0).all()) else 2 ** (bits - 1) - 1
    amax = float(values.abs().max())
    least = min(squared_error(values, amax * k / 600, code=code) for k in range(20, 601))
    span = range_of(MeanSquaredError(bits=bits), *torch.split(values, 999))
    chosen = squared_error(values, max(abs(span.low), abs(span.high)), code=code)
    # Clips are tried 0.5 % apart, where the error is flat; beyond that it jitters with the single values, less than 1 %
    # where 400 of them are not 0. (Of 60 values a search over 2000 clips finds one 4 % better by luck.)
    assert chosen <= 1.01 * least


def test_mse_of_non_negative_values_with_signed_codes_uses_127_levels() -> None:
    values = gaussian(5000).relu()
    signed = range_of(MeanSquaredError(unsigned=False), values).high
    # 127 levels either way: 8 bits signed, or 7 bits unsigned.
    assert signed == range_of(MeanSquaredError(bits=7), values).high
    assert signed < range_of(MeanSquaredError(), values).high


# ── entropy ──


def slow_divergence(bins: list[int], *, clip_bins: int, levels: int) -> float:
    """D(i) of the slides in loops over bins, with the two additions that the file states."""
    inside, beyond = bins[:clip_bins], sum(bins[clip_bins:])
    if 2 * beyond >= sum(bins):
        return math.inf
    reference = [float(count) for count in inside]
    reference[-1] += beyond
    if beyond and inside[-1] == 0:
        inside[-1] = 1
    candidate = [0.0] * clip_bins
    for level in range(levels):
        members = range(clip_bins * level // levels, clip_bins * (level + 1) // levels)
        filled = [bin for bin in members if inside[bin] > 0]
        for bin in filled:
            candidate[bin] = sum(inside[bin] for bin in members) / len(filled)
    return sum(
        p / sum(reference) * math.log(p / sum(reference) / (q / sum(candidate)))
        for p, q in zip(reference, candidate, strict=True)
        if p > 0
    )


@pytest.mark.parametrize("seed", range(4))
def test_divergences_of_60_bins_in_8_levels_agree_with_loops_over_the_bins(seed: int) -> None:
    numbers = np.random.default_rng(seed)
    counts = numbers.poisson(200.0 * np.exp(-np.arange(60) / numbers.integers(4, 20))).astype(np.int64)
    counts[59] += 1  # the last bin holds the maximum
    fast = divergences(counts, levels=8)
    slow = [slow_divergence(counts.tolist(), clip_bins=clip, levels=8) for clip in range(8, 61)]
    assert len(fast) == len(slow) == 53
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)  # float64, sums of 60 terms of at most 10


def test_divergence_by_hand_of_4_bins_in_2_levels() -> None:
    # i = 4: P = (3, 1, 2, 2) / 8, Q = (2, 2, 2, 2) / 8  →  D = (3 log 1.5 + log 0.5) / 8
    # i = 3: levels of 1 and 2 bins. P = (3, 1, 4) / 8, Q = (3, 1.5, 1.5) / 6
    last = (3 * math.log(3 / 2) + math.log(1 / 2)) / 8
    third = (
        3 / 8 * math.log((3 / 8) / (3 / 6)) + 1 / 8 * math.log((1 / 8) / (1.5 / 6)) + 0.5 * math.log(0.5 / (1.5 / 6))
    )
    # i = 2 cuts half of the values
    np.testing.assert_allclose(divergences(np.array([3, 1, 2, 2]), levels=2), [math.inf, third, last], atol=1e-15)


def test_entropy_of_200000_gaussian_values_clips_beyond_3_sigma_and_within_the_maximum() -> None:
    values = gaussian(200_000)
    high = range_of(Entropy(), values).high
    # 0.27 % of the values lie beyond 3σ: cutting more would put more into the last bin than its neighbours hold.
    assert 3.0 < high <= float(values.abs().max())


def test_entropy_clips_a_tenth_below_one_outlier_of_50_among_10000_gaussian_values() -> None:
    assert 2.0 < range_of(Entropy(), gaussian(10_000), torch.tensor([50.0])).high < 45.0


def test_entropy_keeps_uniform_values_up_to_1_percent() -> None:
    values = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    # A uniform distribution loses at every clip: the whole range is best.
    assert range_of(Entropy(), values).high > 0.99


def test_entropy_of_relu_is_the_same_with_1000000_more_zeros() -> None:
    values = gaussian(50_000).relu()
    assert range_of(Entropy(), values) == range_of(Entropy(), values, torch.zeros(1_000_000))


def test_entropy_of_values_from_5_to_6_keeps_at_least_half_of_them() -> None:
    values = 5.0 + torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert range_of(Entropy(), values).high > 5.5


@pytest.mark.parametrize("observer", [Entropy, MeanSquaredError])
@pytest.mark.parametrize("bits", [1, 9])
def test_1_and_9_bits_are_refused(observer: type[Entropy] | type[MeanSquaredError], bits: int) -> None:
    with pytest.raises(ValueError, match="2 to 8 bits"):
        observer(bits=bits)


def test_the_choice_on_8192_full_bins_looks_at_2048_of_entropy() -> None:
    histogram = MagnitudeHistogram()
    histogram.see(torch.arange(8192) / 8192)
    # Every bin holds one value, so four together hold four: nothing to gain from any clip but the whole.
    assert Entropy().clip(histogram) == 8191 / 8192
