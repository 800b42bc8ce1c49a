"""A process that opens two engines of one network and times them in turns: one of the fresh processes of a gate.

    python -m targets.engines.pair_process ORDER.json    → one line of JSON

Imports numpy and the runtime only: a process then starts in half a second, and a gate affords many. Processes matter:
where the parts of an engine happen to lie in memory makes it up to 2 % slower for as long as it is open, and no number
of calls averages that out. So both engines are opened several times in here too, each time in an order, and behind an
amount of memory, that is drawn by seed.

ORDER.json: engines [{path, runtime}, {path, runtime}], inputs (a .npy file with one batch), threads, seed, sittings,
seconds (of timing, in each sitting), untimed, timed, least (sample_turns_for in targets/stopwatch.py).
Gives: sittings, each with load_ms [2], cpu_ms and wall_ms [2][rounds × timed]; or failed: a sentence, of which engine.
"""

import json
import random
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from targets.engines.memory_probe import opened
from targets.errors import TargetsError
from targets.stopwatch import now_s, sample_turns_for, settle

WARMING_S = 0.08  # of each engine, in each sitting
MOST_PADDING = 1 << 20  # bytes: many times the page, by which the place of small tensors in the caches is decided
MS_PER_S = 1000


class Failed(Exception):
    """An engine cannot be opened or asked; says which, by its place in the order."""


def sitting(order: Mapping[str, Any], inputs: Any, draw: random.Random) -> dict[str, Any]:
    """Open both, warm both up, time them in turns, close both."""
    padding = [np.empty(draw.randrange(1, MOST_PADDING), np.uint8) for _ in range(2)]
    runners: list[Any] = [None, None]
    load_ms = [0.0, 0.0]
    for place in draw.sample((0, 1), 2):
        before = now_s()
        runners[place] = open_one(order, place)
        load_ms[place] = (now_s() - before) * MS_PER_S
    calls = [partial(asked, runner, inputs, place) for place, runner in enumerate(runners)]
    for call in calls:
        settle(call, max_seconds=WARMING_S)
    turns = sample_turns_for(
        calls, seconds=float(order["seconds"]), untimed=int(order["untimed"]), timed=int(order["timed"]),
        least=int(order["least"]), draw=draw,
    )  # fmt: skip
    for runner in runners:
        runner.close()
    del padding
    return {"load_ms": load_ms, "cpu_ms": turns.cpu_ms, "wall_ms": turns.wall_ms}


def open_one(order: Mapping[str, Any], place: int) -> Any:
    """The engine at this place of the order."""
    engine = order["engines"][place]
    try:
        return opened(Path(engine["path"]), threads=int(order["threads"]), runtime=str(engine["runtime"]))
    except TargetsError as error:
        raise Failed(place, str(error)) from error


def asked(runner: Any, inputs: Any, place: int) -> object:
    """One answer."""
    try:
        return runner(inputs)
    except TargetsError as error:
        raise Failed(place, str(error)) from error


def main(arguments: list[str]) -> int:
    """Do what the order says."""
    order = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    inputs = np.load(order["inputs"], allow_pickle=False)
    draw = random.Random(int(order["seed"]))
    try:
        for place in range(2):  # loads runtime and files, so that no sitting's load time has that in it
            open_one(order, place).close()
        told: dict[str, Any] = {"sittings": [sitting(order, inputs, draw) for _ in range(int(order["sittings"]))]}
    except Failed as failure:
        told = {"failed": failure.args[1], "engine": failure.args[0]}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
