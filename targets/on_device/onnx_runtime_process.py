"""A part of a job in a fresh process: its memory is its own, and so is the luck of where its memory lies.

The interpreter is that of the job ("python"), else the one that runs; the code is found where this file was found, in a
folder or in the one file that was sent over. Orders go in on stdin and the answer comes back on stdout, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from targets.on_device.failures import KINDS, OnDeviceFailure

PLACE = Path(__file__).parents[2]  # the folder or the zip application that holds the package `targets`
START = (
    "import sys; sys.path[0] = sys.argv[1]; "  # not the folder of the job: a file there may be named like a module
    "from targets.on_device.onnx_runtime_process import main; sys.exit(main())"
)


class NoProcess(Exception):
    """The interpreter cannot be started: why."""


def in_fresh_process(orders: dict[str, Any], folder: Path) -> Any:
    """What `do(orders)` gives in a process of its own.

    Raises:
        NoProcess: none can be started.
    """
    python = orders["job"].get("python") or sys.executable
    if not python:
        raise NoProcess("the running Python does not know where its program is")
    command = [python, "-c", START, str(PLACE.resolve())]
    try:
        ended = subprocess.run(
            command, input=json.dumps(orders), cwd=str(folder), stdout=subprocess.PIPE, text=True, check=False
        )
    except OSError as error:
        raise NoProcess(f"{python}: {error.strerror or error}") from error
    lines = ended.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError):
        answer = None
    if not isinstance(answer, dict) or answer.get("kind") not in (*KINDS, None):
        raise OnDeviceFailure(
            "failed",
            f"a process of its own ended with code {ended.returncode} and without an answer"
            + (": it was stopped, perhaps because memory ran out." if ended.returncode < 0 else "."),
        )
    if answer.get("kind"):
        raise OnDeviceFailure(answer["kind"], answer["sentence"])
    return answer["answer"]


def main() -> int:
    """Do what stdin orders; say the answer on stdout."""
    orders = json.loads(sys.stdin.read())
    try:
        said = {"answer": do(orders)}
    except OnDeviceFailure as failure:
        said = {"kind": failure.kind, "sentence": failure.sentence}
    sys.stdout.write("\n" + json.dumps(said) + "\n")
    return 0


def do(orders: dict[str, Any]) -> Any:
    """One part of a job: its times or its memory."""
    from targets.on_device.onnx_runtime_times import times

    job, folder = orders["job"], Path(orders["folder"])
    if orders["what"] == "times":
        return times(job, folder, process=orders["process"])
    from targets.on_device.onnx_runtime_memory import peak_after_one_answer

    return peak_after_one_answer(job, folder)
