"""The only clock in the project.

Warm up until the running median settles; then take a number of samples that was fixed before the first of them, so
that nobody stops when the figures look good. Two models are timed in turns, the order within each pair drawn by
seed: what the machine does to one it does to the other. The garbage collector rests meanwhile.
"""

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

Call = Callable[[], object]

WINDOW = 10  # runs per median while warming up
SETTLED = 0.02  # two windows in a row within 2 %: below what 299 samples can tell apart on a quiet machine
NS_PER_MS = 1e6


def now_s() -> float:
    """Seconds on a clock that never goes back; only differences mean anything."""
    return time.perf_counter()


def settle(call: Call, *, max_seconds: float = 10.0) -> tuple[int, float]:
    """Warm up until two medians of ten runs agree within 2 %, or time is over.

    Returns how many runs it took and the last median in ms. One run is always made.
    """
    started = now_s()
    times_ms: list[float] = []
    before = float("inf")
    with _no_garbage_collection():
        while True:
            times_ms.append(_once_ms(call))
            if len(times_ms) % WINDOW == 0:
                current = median(times_ms[-WINDOW:])
                if abs(current - before) <= SETTLED * current:
                    break
                before = current
            if now_s() - started >= max_seconds:
                break
    return len(times_ms), median(times_ms[-WINDOW:])


def count_for(median_ms: float, *, seconds: float, least: int = 299, most: int = 2000) -> int:
    """How many samples to take in about this time. 299 is the least that bounds a p99 from above with 95 %."""
    if least > most:
        raise ValueError(f"least ({least}) is above most ({most})")
    affordable = most if median_ms <= 0 else int(min(seconds * 1000 / median_ms, most))
    return max(least, affordable)


def sample_ms(call: Call, *, count: int) -> tuple[float, ...]:
    """The time of each of `count` calls."""
    with _no_garbage_collection():
        return tuple(_once_ms(call) for _ in range(count))


def sample_pairs_ms(
    reference: Call, candidate: Call, *, count: int, seed: int = 0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The times of `count` calls of each, in turns; which goes first within a pair is drawn by seed.

    Each timed call follows an untimed one of the same network, as it would in a process of its own: otherwise the small
    network would pay for the caches that the large one has just filled.

    Use one thread: from two threads on, two open engines slow each other down even when their threads rest in between
    (by 9 % where it was measured).
    """
    draw = random.Random(seed)  # its own generator: the global one belongs to the training
    reference_first = [draw.random() < 0.5 for _ in range(count)]
    reference_ms: list[float] = []
    candidate_ms: list[float] = []
    with _no_garbage_collection():
        for first in reference_first:
            if first:
                reference_ms.append(_warm_ms(reference))
            candidate_ms.append(_warm_ms(candidate))
            if not first:
                reference_ms.append(_warm_ms(reference))
    return tuple(reference_ms), tuple(candidate_ms)


def sample_turns_ms(calls: Sequence[Call], *, count: int, seed: int = 0) -> tuple[tuple[float, ...], ...]:
    """The times of `count` calls of each of several, in rounds: as `sample_pairs_ms`, for more than two.

    The order within a round is drawn by seed.
    """
    draw = random.Random(seed)
    orders = [draw.sample(range(len(calls)), len(calls)) for _ in range(count)]
    times_ms: list[list[float]] = [[] for _ in calls]
    with _no_garbage_collection():
        for order in orders:
            for place in order:
                times_ms[place].append(_warm_ms(calls[place]))
    return tuple(tuple(each) for each in times_ms)


@dataclass(frozen=True)
class Turns:
    """Times in ms of two calls in turns, by processor time of this process and by the clock; a row per call.

    Those of one turn stand beside each other: place // timed is the round.
    """

    cpu_ms: tuple[tuple[float, ...], ...]
    wall_ms: tuple[tuple[float, ...], ...]
    timed: int


def sample_turns_for(
    calls: Sequence[Call], *, seconds: float, untimed: int, timed: int, least: int, draw: random.Random
) -> Turns:
    """Turns of each call, in rounds whose order is drawn, for about this time and for at least so many rounds.

    untimed: calls at the beginning of a turn, which find the caches full of the other network · timed: those behind
    """
    cpu_ms: list[list[float]] = [[] for _ in calls]
    wall_ms: list[list[float]] = [[] for _ in calls]
    until = now_s() + seconds
    rounds = 0
    with _no_garbage_collection():
        while rounds < least or now_s() < until:
            for place in draw.sample(range(len(calls)), len(calls)):
                call = calls[place]
                for _ in range(untimed):
                    call()
                for _ in range(timed):
                    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
                    call()
                    cpu_after, wall_after = time.process_time_ns(), time.perf_counter_ns()
                    cpu_ms[place].append((cpu_after - cpu) / NS_PER_MS)
                    wall_ms[place].append((wall_after - wall) / NS_PER_MS)
            rounds += 1
    return Turns(tuple(map(tuple, cpu_ms)), tuple(map(tuple, wall_ms)), timed)


def _warm_ms(call: Call) -> float:
    call()
    return _once_ms(call)


def _once_ms(call: Call) -> float:
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / NS_PER_MS


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
