"""Times of several engines as a device sends them: a row per engine and process, put together again."""

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def in_step(runs: Rows, engines: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """The times of each engine; from every process as many as of the engine with the fewest there.

    A runtime that runs for a time and not for a number answers more often with the faster engine. Sample i is of the
    same process for all.
    """
    taken: list[list[float]] = [[] for _ in engines]
    for own in by_process(runs, engines, "latency_ms"):
        fewest = min(map(len, own), default=0)
        for all_of_it, part in zip(taken, own, strict=True):
            all_of_it.extend(part[:fewest])
    return tuple(tuple(each) for each in taken)


def by_process(runs: Rows, engines: Sequence[str], what: str) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Of each process, of each engine: its times."""
    return tuple(
        tuple(times_of_engine([run for run in runs if run["process"] == process], name, what) for name in engines)
        for process in dict.fromkeys(run["process"] for run in runs)
    )


def times_of_engine(runs: Rows, engine: str, what: str) -> tuple[float, ...]:
    """The times of an engine from all processes, in the order of the processes."""
    own = [run for run in runs if run["engine"] == engine and run.get(what)]
    return tuple(float(time) for run in own for time in run[what])
