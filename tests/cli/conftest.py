"""One tiny real run of the command, shared; and what is needed to start the command as a user does."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from targets.reach.local import is_x86

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Finished:
    """A finished run. arguments: of the command, but for `--out`"""

    world: Path
    out: Path
    arguments: tuple[str, ...]
    ended: Any


Compress = Callable[..., Any]


def tool(name: str) -> ModuleType:
    """A file of tools/, which are not installed."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def bad_inputs() -> ModuleType:
    """Everything that must be refused, and what it needs on the disk."""
    tool("bad_networks")  # bad_inputs imports it
    return tool("bad_inputs")


@pytest.fixture(scope="session")
def warm_commands() -> ModuleType:
    """How to run many commands without loading torch for each."""
    return tool("warm_commands")


@pytest.fixture(scope="session")
def warm(warm_commands: ModuleType) -> Iterator[Any]:
    """An interpreter that has loaded torch."""
    with warm_commands.warm_interpreter() as warm:
        yield warm


@pytest.fixture(scope="session")
def quick(warm_commands: ModuleType, warm: Any) -> Callable[..., Any]:
    """Run `compress …` in a folder, forked from the loaded interpreter."""

    def run(*arguments: str, cwd: Path) -> Any:
        (ended,) = warm.run([warm_commands.Command(arguments, str(cwd))])
        return ended

    return run


@pytest.fixture(scope="session")
def command_line() -> list[str]:
    """The command on one core: two threads that share busy cores with other work wait for each other for seconds."""
    cores = sorted(os.sched_getaffinity(0))
    pinned = ["taskset", "-c", str(cores[os.getpid() % len(cores)])] if shutil.which("taskset") else []
    return [*pinned, sys.executable, "-m", "pipeline.cli"]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment without PYTHONPATH: what is installed is what is run."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="session")
def compress(command_line: list[str], environment: dict[str, str], warm_commands: ModuleType) -> Compress:
    """Run `compress …` in a folder, to its end, as a user does: in a process that begins with nothing."""

    def run(*arguments: str, cwd: Path, before: tuple[str, ...] = ()) -> Any:
        ended = subprocess.run(
            [*before, *command_line, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False,
            timeout=240,
        )  # fmt: skip
        return warm_commands.Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture(scope="session")
def world(bad_inputs: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, networks, recipes and checkpoints, sound ones and others."""
    folder = tmp_path_factory.mktemp("world")
    bad_inputs.write_world(folder)
    return folder


@pytest.fixture(scope="session")
def finished(world: Path, compress: Compress) -> Finished:
    """`compress init`, and the recipe that it wrote, run as it stands."""
    if not is_x86():
        pytest.skip("an x86 processor is missing: the shared run is for the target x86-cpu")
    networks = ("--teacher", "networks:large", "--student", "networks:small")
    written = compress("init", *networks, "--data", "photos", cwd=world)
    assert written.exit_code == 0, written.stderr
    arguments = ("--recipe", "./my_recipe.py", "--data", "photos", "--target", "x86-cpu", "--epochs-scale", "0.05")
    # The test split holds 48 pictures: with no disagreement the drop is known to ±6.1 points, so 10 can be decided.
    limits = ("--min-speedup", "0.001", "--max-accuracy-drop", "10")
    ended = compress(*arguments, *limits, "--out", "finished", "--json", cwd=world)
    return Finished(world, world / "finished", arguments, ended)


@pytest.fixture
def again(finished: Finished, quick: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """The shared run once more, on a copy of its `--out` and with other flags behind it."""
    shutil.copytree(finished.out, tmp_path / "out")

    def run(*more: str) -> Any:
        return quick(*finished.arguments, *more, "--out", str(tmp_path / "out"), "--json", cwd=finished.world)

    return run
