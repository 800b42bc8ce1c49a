"""Times of several engines, in turns, in this process: what `targets/stopwatch.py` does on the host, without the host.

Engines are opened in an order drawn by seed: who comes first has the better place in memory, or the worse one. Warm up
until two medians of ten agree within 2 %; fix the number of samples; then take them in rounds, the order within a round
drawn by seed, each timed call behind an untimed one of the same engine, the garbage collector at rest.

On a processor a sample is one call. With CUDA it is two: `latency_ms` from an input in host memory to the answer in
host memory, `compute_ms` with input and answer in the GPU's memory.
"""

from __future__ import annotations

import gc
import random
import time
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

from targets.on_device.onnx_runtime_arrays import asked, questions
from targets.on_device.onnx_runtime_session import open_session, settings_of, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WINDOW = 10  # runs per median while warming up
SETTLED = 0.02
WARMING_S = 3.0
LEAST, MOST = 299, 2000  # samples; 299 is the least that bounds a p99 from above with 95 %
SAMPLING_S = 1.5  # per engine
NS_PER_MS = 1e6


def times(job: dict[str, Any], folder: Path, *, process: int) -> list[dict[str, Any]]:
    """One row per engine; `process` tells the rows of fresh processes apart and moves the seed."""
    asked_for = job.get("settings") or {}
    settings = settings_of(job)
    seed = int(asked_for.get("seed") or 0) + process
    opened: dict[str, list[Callable[[], object]]] = {}
    for name in random.Random(seed).sample(list(job["engines"]), len(job["engines"])):
        session = open_session(folder / name, settings)
        feeds = questions(session, job, folder).first()
        asked(session, feeds)  # fails with a sentence, if it does
        ends = [_end_to_end(session, feeds)]
        if settings.provider == "cuda":
            ends.append(_compute_only(session, feeds))
        opened[name] = ends
    settled = [settle(call) for each in opened.values() for call in each]
    least = whole_number(job, "least", LEAST)
    affordable = count_for(max(settled), seconds=asked_for.get("seconds") or SAMPLING_S, least=least)
    calls = [opened[name] for name in job["engines"]]
    taken = in_turns(calls, count=whole_number(job, "samples", affordable), seed=seed)
    return [
        {
            "engine": name,
            "process": process,
            "compute_ms": taken[place][1] if len(taken[place]) > 1 else None,
            "latency_ms": taken[place][0],
        }
        for place, name in enumerate(job["engines"])
    ]


def in_turns(calls: list[list[Callable[[], object]]], *, count: int, seed: int) -> list[list[list[float]]]:
    """The times of `count` rounds: of each engine, of each of its calls, in ms."""
    draw = random.Random(seed)
    orders = [draw.sample(range(len(calls)), len(calls)) for _ in range(count)]
    taken: list[list[list[float]]] = [[[] for _ in ends] for ends in calls]
    with no_garbage_collection():
        for order in orders:
            for place in order:
                for end, call in enumerate(calls[place]):
                    call()
                    taken[place][end].append(once_ms(call))
    return taken


def settle(call: Callable[[], object]) -> float:
    """Warm up until two medians in a row agree within 2 %, or time is over; the last median in ms."""
    started, samples, before = time.perf_counter(), [], float("inf")
    with no_garbage_collection():
        while True:
            samples.append(once_ms(call))
            if len(samples) % WINDOW == 0:
                current = median(samples[-WINDOW:])
                if abs(current - before) <= SETTLED * current:
                    break
                before = current
            if time.perf_counter() - started >= WARMING_S:
                break
    return median(samples[-WINDOW:])


def count_for(median_ms: float, *, seconds: float, least: int = LEAST) -> int:
    """How many samples fit into about this time, at least 299 or what else is asked for, and 2 000 at the most."""
    affordable = MOST if median_ms <= 0 else int(min(seconds * 1000 / median_ms, MOST))
    return max(least, affordable)


def once_ms(call: Callable[[], object]) -> float:
    """The time of one call."""
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / NS_PER_MS


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """The collector rests, and is as before afterwards."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _end_to_end(session: Any, feeds: dict[str, Any]) -> Callable[[], object]:
    return lambda: session.run(None, feeds)


def _compute_only(session: Any, feeds: dict[str, Any]) -> Callable[[], object]:
    """Input and answer stay on the GPU; the call ends when the answer is there."""
    from onnxruntime import OrtValue

    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array, "cuda", 0))
    for door in session.get_outputs():
        binding.bind_output(door.name, "cuda", 0)
    binding.synchronize_inputs()

    def call() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return call
