"""A folder that acts as a Jetson, for tests: files and commands. A stand-in, no device.

    bin/           nvpmodel, jetson_clocks, sudo, tegrastats, trtexec; and python3, which tells our jobs their root
    root/          what the device shows below /etc, /proc, /sys
    commands.log   every command line, in order

A process takes it for its device when `bin` comes first on its PATH. The python3 there is the one that runs the tests,
with a `sitecustomize` that writes {"root": …} into the job.json of a job which is started with it.
"""

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # these files are loaded by path: tests are no package

from jetson_tree import files_of_a_jetson, write_files

HERE = Path(__file__).resolve().parent
COMMANDS = ("nvpmodel", "jetson_clocks", "sudo", "tegrastats")
ROOT_INTO_JOB = """
import json, sys
from pathlib import Path
started = [*getattr(sys, "orig_argv", [])]
for at, argument in enumerate(started):
    if argument.endswith(".pyz") or argument.endswith("on_device/start.py"):
        job = Path(started[at + 2] if len(started) > at + 2 else ".") / "job.json"
        if job.is_file():
            job.write_text(json.dumps({**json.loads(job.read_text()), "root": ROOT}))
"""


@dataclass(frozen=True)
class StandInJetson:
    """The folder, and what tests want to know of it."""

    folder: Path

    @property
    def root(self) -> Path:
        """What stands for / there."""
        return self.folder / "root"

    @property
    def search_path(self) -> str:
        """The PATH of a process that is on it."""
        return f"{self.folder / 'bin'}{os.pathsep}{os.defpath}"

    def commands(self) -> list[str]:
        """Every command line so far, without folders."""
        log = self.folder / "commands.log"
        return log.read_text(encoding="utf-8").splitlines() if log.is_file() else []

    def changes(self) -> list[str]:
        """Those that came through sudo and were no questions."""
        asks = ("--show", "-q")
        return [
            line[len("sudo -n ") :]
            for line in self.commands()
            if line.startswith("sudo -n ") and not line.endswith(asks)
        ]

    def clock_texts(self) -> dict[str, str]:
        """Every file below the root with a clock in it."""
        paths = sorted(self.root.rglob("*_freq"))
        return {path.relative_to(self.root).as_posix(): path.read_text(encoding="utf-8") for path in paths}

    def mode(self) -> str:
        """The power mode now."""
        return str(json.loads((self.folder / "standin.json").read_text(encoding="utf-8"))["mode"])

    def change(self, **settings: Any) -> None:
        """Settings of the commands, see jetson_commands.py."""
        path = self.folder / "standin.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **settings}), encoding="utf-8")

    def change_trtexec(self, **settings: Any) -> None:
        """Settings of trtexec, see trtexec.py."""
        path = self.folder / "trtexec.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **settings}), encoding="utf-8")


def jetson_in(folder: Path, *, mode: str = "15W", sudo: str = "allowed", **trtexec: Any) -> StandInJetson:
    """Make one; `trtexec` are the settings of its trtexec, such as tensorrt="8.5.2"."""
    (folder / "bin").mkdir(parents=True)
    (folder / "site").mkdir()
    write_files(folder / "root", files_of_a_jetson(mode=mode))
    settings = {"mode": mode, "sudo": sudo, "reboot_modes": [], "fails": ""}
    (folder / "standin.json").write_text(json.dumps(settings), encoding="utf-8")
    log = {"log": str(folder / "commands.log")}
    (folder / "trtexec.json").write_text(json.dumps({**log, **trtexec}), encoding="utf-8")
    for name in COMMANDS:
        _write_command(
            folder / "bin" / name,
            "from jetson_commands import main",
            f"raise SystemExit(main({name!r}, sys.argv[1:], Path({str(folder)!r})))",
            flags=" -SE",  # the standard library alone: it starts in half the time
        )
    _write_command(
        folder / "bin" / "trtexec",
        "from trtexec import main",
        f"raise SystemExit(main(sys.argv[1:], settings_file=Path({str(folder / 'trtexec.json')!r})))",
    )
    customize = ROOT_INTO_JOB.replace("ROOT}", repr(str(folder / "root")) + "}")
    (folder / "site" / "sitecustomize.py").write_text(customize, encoding="utf-8")
    python = folder / "bin" / "python3"
    start = f'PYTHONPATH={shlex.quote(str(folder / "site"))} exec {shlex.quote(sys.executable)} "$@"'
    remark = "# stand-in: the Python of the tests, told where its device is"
    python.write_text(f"#!/bin/sh\n{remark}\n{start}\n", encoding="utf-8")
    python.chmod(0o755)
    return StandInJetson(folder)


def _write_command(path: Path, *calls: str, flags: str = "") -> None:
    lines = [
        f"#!{sys.executable}{flags}",
        "# a stand-in, made for a test",
        "import sys",
        "from pathlib import Path",
        f"sys.path.insert(0, {str(HERE)!r})",
        *calls,
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(0o755)
