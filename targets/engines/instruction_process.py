"""A process that opens one engine and lets the instructions of its calls be counted, each call by itself.

    python -m targets.engines.instruction_process ORDER.json    → one line of JSON

Under callgrind it says by requests when to count, and callgrind writes a file for each count; without, it reads the
processor's counter. The first count is without a call: it is what counting itself costs. Counts go the same way
through Python, and calls that are not counted go before: an engine chooses its paths and its memory in the first ones.

Imports numpy and the runtime only, and the runtime last: every file that is there before is not the runtime's.

ORDER.json: engine, runtime, inputs (a .npy file with one batch), threads, witness, warming (calls before), calls.
Gives: others (files with instructions that are not the runtime's: Python's, numpy's, the C library's); counts, the
one without a call first ([] under callgrind).
"""

import gc
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from targets.engines.callgrind_request import Request, asking
from targets.engines.hardware_counter import counting
from targets.engines.memory_probe import opened
from targets.errors import EngineFailed

MAPS = Path("/proc/self/maps")
COUNT = (Request.FORGET, Request.START, Request.STOP, Request.WRITE_DOWN)
DO_NOTHING = (Request.ANYBODY,) * 4

Call = Callable[[], object]


def let_callgrind_count(call: Call, *, warming: int, calls: int) -> None:
    """Nothing, then each call.

    Raises:
        EngineFailed: this process does not run under valgrind.
    """
    ask = asking()
    if ask(Request.ANYBODY) == 0:
        raise EngineFailed("This process does not run under valgrind, or valgrind does not hear its requests.")
    for _ in range(warming):
        bracketed(ask, call, DO_NOTHING)
    for each in (lambda: None, *[call] * calls):
        bracketed(ask, each, COUNT)


def bracketed(ask: Callable[[Request], int], call: Call, requests: tuple[Request, ...]) -> None:
    """The call between the second request and the third."""
    forget, start, stop, write_down = requests
    ask(forget)
    ask(start)
    call()
    ask(stop)
    ask(write_down)


def counted_by_hardware(made: Callable[[], Call], *, warming: int, calls: int) -> list[int]:
    """Nothing, then each call, by the processor's counter, which is opened first: so it sees the engine's threads."""
    counts = []
    with counting() as counter:
        call = made()
        for each in (*[call] * warming, lambda: None, *[call] * calls):
            counter.start()
            each()
            counts.append(counter.stop())
    return counts[warming:]


def files_in_memory() -> list[str]:
    """Files with instructions that this process has in its memory."""
    lines = MAPS.read_text(encoding="utf-8", errors="replace").splitlines()
    areas = [line.split(maxsplit=5) for line in lines]  # addresses, rights, offset, device, inode, path
    return sorted({area[5] for area in areas if len(area) == 6 and "x" in area[1] and area[5].startswith("/")})


def call_of(order: Any, inputs: Any) -> Call:
    """The engine, opened, on this batch."""
    run = opened(Path(order["engine"]), threads=int(order["threads"]), runtime=str(order["runtime"]))
    return lambda: run(inputs)


def main(arguments: list[str]) -> int:
    """Do what the order says."""
    order = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    inputs = np.load(order["inputs"], allow_pickle=False)
    warming, calls = int(order["warming"]), int(order["calls"])
    others, counts = files_in_memory(), []
    gc.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # valgrind would leave a picture of the memory where it crashes
    if order["witness"] == "callgrind":
        let_callgrind_count(call_of(order, inputs), warming=warming, calls=calls)
    else:
        counts = counted_by_hardware(lambda: call_of(order, inputs), warming=warming, calls=calls)
    sys.stdout.write(json.dumps({"others": others, "counts": counts}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
