"""`build_on_device.py` of a bundle: check it, finish it on this machine, and leave `evidence/` in it.

The digests are checked before anything of the bundle is opened; with --signers also who signed them (`ssh-keygen -Y`).
Budgets of time are judged here; that of accuracy, and the report, by `compress build BUNDLE` where the program is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.on_device.bundle_check import refuse_damaged, refuse_unsigned
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.finish import finish, order_of
from targets.on_device.judged_here import OUTCOMES, judged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EVIDENCE = "evidence"


def main(bundle: Path, arguments: list[str]) -> int:
    """Returns the exit code: 0 met, 1 missed, 2 it cannot be done, 3 undecided."""
    parser = argparse.ArgumentParser(
        prog="build_on_device.py", description="Build this bundle's engine here, measure it, and ask it.",
        epilog="exit codes: 0 every budget that can be judged here is met, 1 one is missed, 2 it cannot be done, "
        "3 undecided",
    )  # fmt: skip
    parser.add_argument("--signers", metavar="FILE", help="refuse the bundle unless one of these signed SHA256SUMS")
    parser.add_argument("--lock-clocks", action="store_true", help="lock the clocks while measuring, where permitted")
    parser.add_argument("--power-mode", metavar="NAME", help="measure in this power mode, where permitted")
    flags = parser.parse_args(arguments)
    part = bundle / "on_device.pyz"
    try:
        count = refuse_damaged(bundle)
        if flags.signers:
            refuse_unsigned(bundle, Path(flags.signers))
        _say(f"{count} files are whole{', and signed' if flags.signers else ''}")
        order = order_of(bundle)
        with tempfile.TemporaryDirectory(dir=str(bundle), prefix=".evidence-") as beside:
            asks = Here(part, Path(beside), locks={"lock_clocks": flags.lock_clocks, "power_mode": flags.power_mode})
            found = finish(bundle, asks, into=Path(beside) / EVIDENCE)
            (Path(beside) / EVIDENCE / "evidence.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
            shutil.rmtree(str(bundle / EVIDENCE), ignore_errors=True)
            (Path(beside) / EVIDENCE).rename(bundle / EVIDENCE)
    except OnDeviceFailure as failure:
        sys.stderr.write(f"build_on_device.py: {failure.sentence}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"build_on_device.py: {error.filename or bundle}: {error.strerror or error}.\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("build_on_device.py: interrupted; the bundle is as it was.\n")
        return 130
    rows = judged(order, found, bundle / EVIDENCE)
    for row in rows:
        sys.stdout.write(f"{row['verdict']}: {row['limit']} {row['bound']:g} ({row['origin']}): {row['why']}\n")
    sys.stdout.write(f"evidence: {bundle / EVIDENCE}; `compress build {bundle.name}` puts it into the report\n")
    return max((OUTCOMES[row["verdict"]] for row in rows), default=0, key=lambda code: (code == 1, code))


class Here:
    """Asks this machine: a process for each job, in a folder of its own."""

    def __init__(self, part: Path, place: Path, *, locks: Mapping[str, Any]) -> None:
        self.part = part
        self.place = place
        self.locks = {name: value for name, value in locks.items() if value}

    def __call__(
        self, what: str, job: Mapping[str, Any], files: Mapping[str, Path], fetch: Sequence[str], into: Path,
        limit_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        """The result; what it lists lies in `into`."""
        settings = {**job.get("settings", {}), **(self.locks if what == "measure" else {})}
        with tempfile.TemporaryDirectory(dir=str(self.place), prefix="job-") as name:
            folder = Path(name)
            for file, path in files.items():
                os.link(str(path), str(folder / file))
            (folder / "job.json").write_text(json.dumps({**job, "settings": settings}), encoding="utf-8")
            last = self._run(what, folder, limit_s)
            if last.get("event") != "done":
                raise OnDeviceFailure(
                    last.get("kind", "failed"), str(last.get("sentence", f"the job {what} ended early"))
                )
            result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
            names = fetch if list(fetch) != ["*"] else [each["file"] for each in result.get("outputs", ())]
            for file in names:
                (folder / file).replace(into / file)
        return dict(result)

    def _run(self, what: str, folder: Path, limit_s: float) -> dict[str, Any]:
        """The last thing that the job says; what it says before goes to stderr."""
        command = [sys.executable, str(self.part), what, str(folder)]
        last: dict[str, Any] = {}
        process = subprocess.Popen(command, cwd=str(folder), stdout=subprocess.PIPE, start_new_session=True)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last = _event(line)
                if last.get("event") == "says":
                    _say(str(last.get("text")))
                elif last.get("event") == "progress" and last.get("done") == last.get("of"):
                    _say(f"{what}: {last.get('what')}, {last.get('of')}")
            process.wait(timeout=limit_s)
        except BaseException:  # Ctrl-C too: what was started must not go on alone
            _end(process)
            raise
        finally:
            process.stdout.close()
        return last


def _event(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode("utf-8", "replace"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the job with all that it started; it puts back clocks first."""
    import signal

    for stop, wait_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, stop)
            process.wait(timeout=wait_s)
            return
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
