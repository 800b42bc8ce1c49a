"""Numbers with units, and the conditions they were taken under.

Every class goes to JSON and back unchanged (`as_json`, `<name>_from_json`). A number that could not be taken is None,
and `Measurement.missing` says why: nothing is ever filled in.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from statistics import fmean
from typing import Any

from targets.intervals import Interval, quantile_interval

# Half of the 5 % for each of the two medians in a speed-up (Bonferroni): both hold together with 95 %.
CONFIDENCE_OF_EACH_MEDIAN = 0.975


@dataclass(frozen=True)
class Conditions:
    """Where and how numbers were taken.

    device: of one that was reached: what it is, and its state (power mode, clocks, temperatures) before and after
    unstable: why its times are not to be believed, a sentence each
    """

    target: str
    machine: str
    cpu: str
    cpu_features: tuple[str, ...]
    cores: int
    operating_system: str
    runtime: str  # for example "onnxruntime 1.31.1"
    threads: int
    batch: int
    warmup_runs: int
    samples: int
    load_average: float | None
    governor: str | None
    memory_bytes: int | None
    on_target: bool
    device: Mapping[str, Any] | None = None
    unstable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latency:
    """Times of single answers, in the order they were taken."""

    samples_ms: tuple[float, ...]
    conditions: Conditions

    @property
    def p50_ms(self) -> float:
        """Half of the answers took no longer."""
        return nearest_rank(self.samples_ms, 0.50)

    @property
    def p99_ms(self) -> float:
        """99 of 100 answers took no longer."""
        return nearest_rank(self.samples_ms, 0.99)

    def p99_interval_ms(self) -> Interval:
        """Bounds of the true p99; the upper one is infinite below 299 samples."""
        bounds = quantile_interval(self.samples_ms, 0.99)
        return Interval(max(0.0, bounds.low), bounds.high)  # time is never negative


@dataclass(frozen=True)
class Pairs:
    """Times of reference and candidate taken in turns, so that a change of the machine hits both."""

    reference_ms: tuple[float, ...]
    candidate_ms: tuple[float, ...]

    @property
    def speedup(self) -> float:
        """How many times faster the candidate's median answer is."""
        candidate = nearest_rank(self.candidate_ms, 0.50)
        reference = nearest_rank(self.reference_ms, 0.50)
        return reference / candidate if candidate > 0 else math.inf

    def speedup_interval(self) -> Interval:
        """Bounds of the ratio of the true medians, whatever the distributions."""
        reference = quantile_interval(self.reference_ms, 0.5, confidence=CONFIDENCE_OF_EACH_MEDIAN)
        candidate = quantile_interval(self.candidate_ms, 0.5, confidence=CONFIDENCE_OF_EACH_MEDIAN)
        low = max(0.0, reference.low) / candidate.high if candidate.high > 0 else math.inf
        high = reference.high / candidate.low if candidate.low > 0 else math.inf
        return Interval(low, high)


@dataclass(frozen=True)
class Accuracy:
    """One score in 0..1 per input, in the order of the inputs."""

    scores: tuple[float, ...]

    @property
    def value(self) -> float:
        """The mean score."""
        return fmean(self.scores)

    @property
    def n(self) -> int:
        """How many inputs were answered."""
        return len(self.scores)


@dataclass(frozen=True)
class Measurement:
    """All that was measured on one candidate. A None has its reason in `missing`, under the same name."""

    conditions: Conditions | None = None
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    pairs: Pairs | None = None
    parameters: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    peak_memory_bytes: int | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = [each.name for each in fields(self) if each.name not in ("conditions", "missing")]
        unexplained = [name for name in numbers if getattr(self, name) is None and not self.missing.get(name)]
        if unexplained:
            raise ValueError(f"a measurement lacks {', '.join(unexplained)} without a reason in `missing`")
        contradicted = [name for name in self.missing if name not in numbers or getattr(self, name) is not None]
        if contradicted:
            raise ValueError(f"`missing` explains {', '.join(contradicted)}, which is not missing")

    def as_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries, with the derived figures beside the samples for who reads the file."""
        written = asdict(self)
        written["missing"] = dict(self.missing)
        if self.accuracy is not None:
            written["accuracy"] |= {"value": self.accuracy.value, "n": self.accuracy.n}
        if self.latency is not None:
            bounds = self.latency.p99_interval_ms()
            written["latency"] |= {
                "p50_ms": self.latency.p50_ms,
                "p99_ms": self.latency.p99_ms,
                "p99_interval_ms": interval_as_json(bounds),
            }
        if self.pairs is not None:
            written["pairs"] |= {
                "speedup": _finite(self.pairs.speedup),
                "speedup_interval": interval_as_json(self.pairs.speedup_interval()),
            }
        return _lists_for_tuples(written)  # type: ignore[no-any-return]


def measurement_from_json(read: Mapping[str, Any]) -> Measurement:
    """The measurement that `as_json` wrote; derived figures are computed again, not believed."""
    accuracy, latency, pairs = read["accuracy"], read["latency"], read["pairs"]
    return Measurement(
        conditions=conditions_from_json(read["conditions"]) if read["conditions"] else None,
        accuracy=Accuracy(tuple(accuracy["scores"])) if accuracy else None,
        latency=Latency(tuple(latency["samples_ms"]), conditions_from_json(latency["conditions"])) if latency else None,
        pairs=Pairs(tuple(pairs["reference_ms"]), tuple(pairs["candidate_ms"])) if pairs else None,
        parameters=read["parameters"],
        macs=read["macs"],
        size_bytes=read["size_bytes"],
        peak_memory_bytes=read["peak_memory_bytes"],
        missing=dict(read["missing"]),
    )


def conditions_from_json(read: Mapping[str, Any]) -> Conditions:
    """The conditions that `as_json` wrote."""
    tuples = {name: tuple(read.get(name, ())) for name in ("cpu_features", "unstable")}
    return Conditions(**{**read, **tuples})


def interval_as_json(interval: Interval) -> list[float | None]:
    """JSON has no infinity: an open end is null."""
    return [_finite(interval.low), _finite(interval.high)]


def nearest_rank(samples: tuple[float, ...], q: float) -> float:
    """The smallest sample that at least a share q of the samples does not exceed: always one that was measured."""
    if not samples:
        raise ValueError("no samples, no quantile")
    return sorted(samples)[math.ceil(round(q * len(samples), 9)) - 1]  # rounded: 0.99 · 100 is 99.00000000000001


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _lists_for_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists_for_tuples(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lists_for_tuples(inner) for inner in value]
    return value
