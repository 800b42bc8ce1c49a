"""A process that opens two engines of one network and times them in turns: one of the fresh processes of a gate.

    python -m targets.engines.pair_process ORDER.json    → one line of JSON

Imports numpy and the runtime only: a process then starts in half a second, and a gate affords many. Processes matter:
where the parts of an engine happen to lie in memory makes it up to 2 % slower for as long as it is open, and no number
of calls averages that out. So both engines are opened several times in here too, each time in an order, and behind an
amount of memory, that is drawn by seed.

A turn of an engine is one call that is not timed, which finds the caches full of the other network, and then some that
are. Times are taken on two clocks: the processor time of this process, which other programs disturb least, and the time
of day, which users wait for.

ORDER.json: engines [{path, runtime}, {path, runtime}], inputs (a .npy file with one batch), threads, seed, sittings,
seconds (of timing, in each sitting), most (turns in a sitting).
Gives: sittings, each with load_ms [2], cpu_ms and wall_ms [2][turns × 3]; version of each runtime; peak_bytes.
"""

import gc
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from targets.engines.memory_probe import opened

TIMED_PER_TURN = 3  # calls behind the one that is not timed
WARMING_S = 0.15
MOST_PADDING = 1 << 20  # bytes; more than a page of any size that matters to the layout of small tensors
NS_PER_MS = 1e6

Call = Callable[[], object]


def sitting(order: Mapping[str, Any], inputs: Any, draw: random.Random) -> dict[str, Any]:
    """Open both, warm both up, time them in turns, close both."""
    padding = [np.empty(draw.randrange(1, MOST_PADDING), np.uint8) for _ in range(2)]
    runners: list[Any] = [None, None]
    load_ms = [0.0, 0.0]
    for place in draw.sample((0, 1), 2):
        engine = order["engines"][place]
        before = time.perf_counter_ns()
        runners[place] = opened(Path(engine["path"]), threads=int(order["threads"]), runtime=str(engine["runtime"]))
        load_ms[place] = (time.perf_counter_ns() - before) / NS_PER_MS
    calls: list[Call] = [lambda run=run: run(inputs) for run in runners]  # type: ignore[misc]
    for call in calls:
        warm(call)
    cpu_ms, wall_ms = turns(calls, seconds=float(order["seconds"]), most=int(order["most"]), draw=draw)
    for runner in runners:
        runner.close()
    del padding
    return {"load_ms": load_ms, "cpu_ms": cpu_ms, "wall_ms": wall_ms}


def warm(call: Call) -> None:
    """Call it for a while; at least three times."""
    until = time.perf_counter() + WARMING_S
    done = 0
    while done < 3 or time.perf_counter() < until:
        call()
        done += 1


def turns(
    calls: list[Call], *, seconds: float, most: int, draw: random.Random
) -> tuple[list[list[float]], list[list[float]]]:
    """Times in ms by processor time and by the clock; both engines once in each round, in an order that is drawn."""
    cpu_ms: list[list[float]] = [[] for _ in calls]
    wall_ms: list[list[float]] = [[] for _ in calls]
    until = time.perf_counter() + seconds
    done = 0
    while done < most and (done == 0 or time.perf_counter() < until):
        for place in draw.sample(range(len(calls)), len(calls)):
            call = calls[place]
            call()
            for _ in range(TIMED_PER_TURN):
                wall, cpu = time.perf_counter_ns(), time.process_time_ns()
                call()
                cpu_after, wall_after = time.process_time_ns(), time.perf_counter_ns()
                cpu_ms[place].append((cpu_after - cpu) / NS_PER_MS)
                wall_ms[place].append((wall_after - wall) / NS_PER_MS)
        done += 1
    return cpu_ms, wall_ms


def main(arguments: list[str]) -> int:
    """Do what the order says."""
    order = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    inputs = np.load(order["inputs"], allow_pickle=False)
    draw = random.Random(int(order["seed"]))
    for engine in order["engines"]:  # loads runtime and files, so that no sitting's load time has that in it
        opened(Path(engine["path"]), threads=int(order["threads"]), runtime=str(engine["runtime"])).close()
    gc.disable()
    sittings = [sitting(order, inputs, draw) for _ in range(int(order["sittings"]))]
    sys.stdout.write(json.dumps({"sittings": sittings}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
