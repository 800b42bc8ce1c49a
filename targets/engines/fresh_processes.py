"""Two engine files timed in turns, in as many fresh processes as there is time for (pair_process.py)."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.engines.own_process import PACKAGES
from targets.errors import EngineFailed

QUICK_MS = 2.0
SLOW_MS = 25.0  # an answer that takes longer finds the caches as cold as its own network leaves them
LEAST_LIMIT_S = 120.0


@dataclass(frozen=True)
class Sitting:
    """One opening of both engines in one process; of each: the time to open it, and of its calls, in turns."""

    load_ms: tuple[float, float]
    cpu_ms: tuple[tuple[float, ...], tuple[float, ...]]
    wall_ms: tuple[tuple[float, ...], tuple[float, ...]]
    timed: int  # calls per turn


@dataclass(frozen=True)
class Pace:
    """What one process does.

    sittings · seconds: of timing in each · untimed, timed: calls per turn · least: rounds in a sitting
    """

    sittings: int = 2
    seconds: float = 0.4
    untimed: int = 1
    timed: int = 4
    least: int = 3


def pace_for(call_ms: float) -> Pace:
    """For an engine that takes this long: a process should end in two seconds or so, with many rounds behind it.

    Measured on MobileNetV2 (7.5 ms), the same file twice, 20 processes: their ratio's standard deviation was 2.1 % with
    the pace of quick engines (5 rounds in a sitting), 0.94 % with two sittings of 0.8 s and two timed calls a turn (15
    rounds), 0.67 % with one of 1.6 s (28 rounds). On ResNet-20 (1 ms) two sittings of 0.4 s had 0.67 %, and one of 0.8
    s 0.89 %: there it is the place in memory that counts.
    """
    if call_ms > SLOW_MS:
        return Pace(sittings=1, seconds=1.6, untimed=0, timed=2, least=5)
    if call_ms > QUICK_MS:
        return Pace(sittings=1, seconds=1.6, timed=2)
    return Pace()


@dataclass(frozen=True)
class FreshProcesses:
    """Times two engines in a fresh process per call.

    engines: of each its file and the name of its runtime; the baseline first · inputs: one batch, (1, …)
    """

    engines: tuple[tuple[Path, str], tuple[Path, str]]
    inputs: NDArray[Any]
    threads: int
    pace: Pace

    def __call__(self, seed: int) -> tuple[Sitting, ...]:
        """One process, everything in it drawn by seed.

        Raises:
            EngineFailed: an engine fails there; the sentence names its file.
        """
        with tempfile.TemporaryDirectory(prefix="edge-compress-") as folder:
            asked, order = Path(folder) / "inputs.npy", Path(folder) / "order.json"
            np.save(asked, self.inputs)
            order.write_text(json.dumps(self._order(asked, seed)), encoding="utf-8")
            told = self._told([sys.executable, "-m", "targets.engines.pair_process", str(order)])
        if "failed" in told:
            path = self.engines[int(told["engine"])][0]
            raise EngineFailed(f"The engine {path} fails while it is timed: {told['failed']}")
        return tuple(sitting_from(each, timed=self.pace.timed) for each in told["sittings"])

    def _order(self, asked: Path, seed: int) -> dict[str, Any]:
        return {
            "engines": [{"path": str(path.resolve()), "runtime": runtime} for path, runtime in self.engines],
            "inputs": str(asked), "threads": self.threads, "seed": seed, "sittings": self.pace.sittings,
            "seconds": self.pace.seconds, "untimed": self.pace.untimed, "timed": self.pace.timed,
            "least": self.pace.least,
        }  # fmt: skip

    def _told(self, command: Sequence[str]) -> dict[str, Any]:
        paths = " or ".join(str(path) for path, _ in self.engines)
        try:
            ended = subprocess.run(
                command, cwd=PACKAGES, capture_output=True, text=True, check=False, timeout=self.limit_s
            )
        except subprocess.TimeoutExpired as error:
            raise EngineFailed(f"A process that times {paths} did not end within {self.limit_s:.0f} s.") from error
        except OSError as error:
            raise EngineFailed(f"No process could be started to time {paths} ({error}).") from error
        if ended.returncode != 0:
            said = ended.stderr.strip().splitlines() or [_death(ended.returncode)]
            raise EngineFailed(f"The process that times {paths} has failed: {said[-1]}")
        told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return told

    @property
    def limit_s(self) -> float:
        """Seconds after which a process is given up."""
        return LEAST_LIMIT_S + 20 * self.pace.sittings * self.pace.seconds


def sitting_from(row: Mapping[str, Any], *, timed: int) -> Sitting:
    """A sitting as the process tells it."""
    load, cpu, wall = (row[name] for name in ("load_ms", "cpu_ms", "wall_ms"))
    return Sitting((load[0], load[1]), (tuple(cpu[0]), tuple(cpu[1])), (tuple(wall[0]), tuple(wall[1])), timed)


def _death(code: int) -> str:
    return f"it was ended by signal {-code}" if code < 0 else f"exit code {code}"
