"""Run `compress` commands in processes forked from an interpreter that has loaded torch, and has not used it yet.

Loading takes four seconds, which fifty commands need not wait for fifty times. What runs is `main` of pipeline/cli.py
with the arguments, the folder, the limits and the exit code of a command of its own.

    python tools/warm_commands.py      reads batches of commands, a JSON list per line, and answers each with a line
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LOADED = ("pipeline.compress", "pipeline.plan", "pipeline.workers", "pipeline.verify", "lightning_fabric")


@dataclass(frozen=True)
class Command:
    """arguments: of `compress` · cwd: where it runs · file_limit_bytes: the largest file it may write, or None."""

    arguments: tuple[str, ...]
    cwd: str
    file_limit_bytes: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def told(self) -> Any:
        """The one JSON value on standard output; anything beside it is an error."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Warm:
    """The loaded interpreter."""

    process: "subprocess.Popen[str]"

    def run(self, commands: Sequence[Command]) -> list[Ended]:
        """Run the commands, as many at once as there are cores, each on one core."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([asdict(command) for command in commands]) + "\n")
        self.process.stdin.flush()
        return [Ended(**each) for each in json.loads(self.process.stdout.readline())]


@contextmanager
def warm_interpreter() -> Iterator[Warm]:
    """Start it; it ends with the block."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve())], cwd="/", env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Warm(process)
    finally:
        process.communicate()  # closes its input, at which it ends


def serve() -> None:
    """Answer batches until the input ends."""
    for module in LOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        commands = [Command(**{**each, "arguments": tuple(each["arguments"])}) for each in json.loads(line)]
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(json.dumps([asdict(ended) for ended in batch(commands, Path(folder))]) + "\n")
        sys.stdout.flush()


def batch(commands: Sequence[Command], folder: Path) -> list[Ended]:
    """Run the commands; what they say goes through files in `folder`."""
    free = sorted(os.sched_getaffinity(0))
    at_work: dict[int, tuple[int, int]] = {}
    codes: dict[int, int] = {}
    waiting = list(range(len(commands)))
    while waiting or at_work:
        if waiting and free:
            place, core = waiting.pop(0), free.pop()
            at_work[started(commands[place], folder / str(place), core=core)] = (place, core)
            continue
        process, status = os.wait()
        place, core = at_work.pop(process)
        free.append(core)
        codes[place] = os.waitstatus_to_exitcode(status)
    return [
        Ended(codes[place], (folder / f"{place}.out").read_text(), (folder / f"{place}.err").read_text())
        for place in range(len(commands))
    ]


def started(command: Command, said: Path, *, core: int) -> int:
    """The number of a process that runs the command, on one core.

    Two threads that share busy cores with other work wait for each other: a stage of 0.2 s was measured to take 17.
    """
    process = os.fork()
    if process:
        return process
    code: Any = 1
    try:
        for number, kind in ((0, os.devnull), (1, f"{said}.out"), (2, f"{said}.err")):
            os.dup2(os.open(kind, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.chdir(command.cwd)
        sys.path[0] = ""  # as for `python -m`: the present folder
        os.sched_setaffinity(0, {core})
        if command.file_limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (command.file_limit_bytes, command.file_limit_bytes))
        code = importlib.import_module("pipeline.cli").main(command.arguments)
    except SystemExit as leaving:  # of argparse
        code = leaving.code
    except BaseException:  # noqa: BLE001 - what escapes main() is printed, as the interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(code or 0))


if __name__ == "__main__":
    serve()
