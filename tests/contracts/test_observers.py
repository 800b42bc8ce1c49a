"""Every file in calibration/observers keeps the contract of an observer, without being named here."""

import importlib
import inspect
import pickle
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import calibration.observers
from calibration.errors import LayerNotFinite, LayerRefused
from calibration.observe import Observer, observe
from calibration.ranges import Range
from calibration.samples import Samples

torch.set_num_threads(1)

NAMES = sorted(path.stem for path in Path(calibration.observers.__path__[0]).glob("*.py") if path.stem != "__init__")


def observers_in(name: str) -> list[Any]:
    """The dataclasses with a `watch` that the file itself defines."""
    module = importlib.import_module(f"calibration.observers.{name}")
    return [
        each
        for _, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__ == module.__name__ and is_dataclass(each) and hasattr(each, "watch")
    ]


@pytest.fixture(params=NAMES)
def observer(request: pytest.FixtureRequest) -> Observer:
    observer: Observer = observers_in(request.param)[0]()
    return observer


def range_of(observer: Observer, *tensors: Tensor) -> Range:
    watch = observer.watch()
    for values in tensors:
        watch.see(values)
    return watch.range()


def activations(seed: int) -> Tensor:
    return torch.randn(8, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_at_least_4_observers_are_found() -> None:
    assert len(NAMES) >= 4  # minmax, percentile, entropy, mse: an empty listing would pass every other test


@pytest.mark.parametrize("name", NAMES)
def test_a_file_defines_exactly_1_frozen_observer_with_defaults(name: str) -> None:
    (observer,) = observers_in(name)
    default = observer()
    assert default == observer()
    with pytest.raises(FrozenInstanceError):
        setattr(default, fields(observer)[0].name if fields(observer) else "anything", 1)
    assert inspect.getdoc(importlib.import_module(f"calibration.observers.{name}"))


@pytest.mark.parametrize("shift", [-3.0, -0.5, 0.0, 0.5, 3.0])
def test_low_is_at_most_high_and_both_lie_within_the_values_at_5_shifts(observer: Observer, shift: float) -> None:
    values = activations(0) + shift
    span = range_of(observer, values)
    assert span.low <= span.high
    assert max(abs(span.low), abs(span.high)) <= float(values.abs().max())
    assert span.high > 0 or shift == -3.0  # most values lie within 3 of the shift


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_1_2_and_5_values_of_any_size_have_a_range(observer: Observer, count: int, scale: float) -> None:
    values = torch.arange(1.0, count + 1.0) * scale
    span = range_of(observer, values)
    assert 0.0 < span.high <= float(values.max())


@pytest.mark.parametrize("value", [-5.0, 0.0, 1e-40, 5.0, 3.4e38])
def test_a_constant_input_is_its_own_range(observer: Observer, value: float) -> None:
    values = torch.full((64, 8), value)
    span = range_of(observer, values, values)
    assert span.low == span.high == float(values[0, 0])


def test_relu_output_stays_non_negative_with_90_percent_zeros(observer: Observer) -> None:
    span = range_of(observer, (activations(0) - 1.28).relu())
    assert span.low == 0.0 < span.high


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_refused_with_the_name_of_the_layer(observer: Observer, bad: float) -> None:
    watch = observer.watch()
    with pytest.raises(LayerNotFinite):
        watch.see(torch.tensor([1.0, bad, 2.0]))
    linear = nn.Linear(2, 2)
    nn.init.constant_(linear.bias, bad)
    network = nn.Sequential(linear)
    with pytest.raises(LayerNotFinite, match=r"layer '0' gives .* for sample 1 of 3"):
        observe(network, Samples(torch.ones(3, 2), origin="here"), points={"0": observer})


def test_a_watch_that_saw_0_values_has_no_range(observer: Observer) -> None:
    watch = observer.watch()
    watch.see(torch.empty(0, 4))
    with pytest.raises(LayerRefused):
        watch.range()
    assert watch.notes() == ()


def test_the_same_3_batches_twice_give_the_same_bits(observer: Observer) -> None:
    batches = [activations(seed) * (seed + 1) for seed in range(3)]
    first, second = (range_of(observer, *batches) for _ in range(2))
    assert (first.low.hex(), first.high.hex()) == (second.low.hex(), second.high.hex())


def test_a_range_may_be_asked_for_twice_and_between_batches(observer: Observer) -> None:
    watch = observer.watch()
    watch.see(activations(0))
    assert watch.range() == watch.range()
    watch.see(activations(1))
    assert watch.range() == range_of(observer, activations(0), activations(1))


def test_the_state_after_50_batches_is_as_large_as_after_1(observer: Observer) -> None:
    watch = observer.watch()
    watch.see(activations(0))
    watch.range()
    after_1 = len(pickle.dumps(watch))
    for seed in range(1, 50):
        watch.see(activations(seed) * (seed + 1))
    watch.range()
    # A batch holds 32 KiB; pickled integers of more digits may take a few bytes more.
    assert len(pickle.dumps(watch)) <= after_1 + 64


def test_two_watches_of_1_observer_know_nothing_of_each_other(observer: Observer) -> None:
    one, other = observer.watch(), observer.watch()
    one.see(torch.tensor([100.0]))
    other.see(torch.tensor([1.0]))
    assert (one.range().high, other.range().high) == (100.0, 1.0)


def test_the_values_shown_are_left_as_they_were(observer: Observer) -> None:
    values = activations(0)
    range_of(observer, values)
    assert torch.equal(values, activations(0))
