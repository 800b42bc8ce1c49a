"""A loopback sshd that stands in for a device: its own keys, its own home, this machine's Python."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from targets.reach.device import Device, connect
from targets.reach.device_part import packed

SSHD_PLACES = "/usr/sbin:/usr/local/sbin:/sbin"

# What does the jobs in these tests, in place of our own part: a test double that says so, and is started like the part.
DOUBLE = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.default_int_handler)
what, folder = sys.argv[1], Path(sys.argv[2])
job = json.loads((folder / "job.json").read_text())
def say(**event):
    print(json.dumps(event), flush=True)
def done(**result):
    (folder / "result.json").write_text(json.dumps(result))
    say(event="done")
if what == "reverse":
    say(event="progress", done=1, of=2, what="bytes")
    print("a line that is no event", flush=True)
    (folder / "out").mkdir()
    (folder / "out" / "reversed").write_bytes((folder / "given").read_bytes()[::-1])
    done(files=["out/reversed"], length=(folder / "given").stat().st_size, pid=os.getpid())
elif what == "sleep":  # writes who it and its child are, and what it does when it is stopped
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(job["pids"]).open("a").write("%d %d\\n" % (os.getpid(), child.pid))
    say(event="says", text="asleep")
    try:
        end = time.monotonic() + job["seconds"]
        while time.monotonic() < end and not Path(job["pids"] + ".wake").exists():
            time.sleep(0.02)
        done(pid=os.getpid())
    finally:
        Path(job["pids"] + ".restored").write_text("put back")
elif what == "fail":
    say(event="failed", kind=job["kind"], sentence=job["sentence"])
    sys.exit(1)
elif what == "crash":
    raise RuntimeError("by itself")
"""


@dataclass
class LoopbackSshd:
    """An sshd on 127.0.0.1 that lets this user in with a key of its own.

    address: ssh://user@127.0.0.1:port. ssh_config: to be given to ssh with -F; known_hosts is named in it. config: a
    file of devices that names it `board`. folder: where the product keeps its files there
    """

    root: Path
    program: str
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def user(self) -> str:
        return pwd.getpwuid(os.getuid()).pw_name

    @property
    def address(self) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    @property
    def ssh_config(self) -> Path:
        return self.root / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.root / "known_hosts"

    @property
    def config(self) -> Path:
        return self.root / "devices.ini"

    @property
    def folder(self) -> Path:
        return self.root / "home" / "kept"

    def set_up(self) -> None:
        """Keys and configurations."""
        (self.root / "home").mkdir(parents=True)
        for name in ("host_key", "user_key"):
            self.new_key(name)
        shutil.copyfile(self.root / "user_key.pub", self.root / "authorized_keys")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (self.root / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.root}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.root}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nSetEnv HOME={self.root}/home\n"
        )
        self.ssh_config.write_text(
            f"Host *\n  IdentityFile {self.root}/user_key\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
        )
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {(self.root / 'host_key.pub').read_text()}")
        self.name_it()

    def name_it(self, **more: str) -> None:
        """Write the file of devices, with other settings where they are given."""
        lines = {"address": self.address, "folder": str(self.folder), "ssh_config": str(self.ssh_config)}
        lines = {**lines, "python": sys.executable, **more}
        self.config.write_text("[board]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items()))

    def new_key(self, name: str) -> None:
        """A new pair in place of the old one."""
        for path in (self.root / name, self.root / f"{name}.pub"):
            path.unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(self.root / name)], check=True
        )

    def start(self) -> None:
        """Begin to listen."""
        self.process = subprocess.Popen(
            [self.program, "-D", "-f", f"{self.root}/sshd_config", "-E", f"{self.root}/log"], start_new_session=True
        )
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise AssertionError((self.root / "log").read_text())

    def stop(self) -> None:
        """End it and all of its connections, as when a device loses its power; what ran there ends with its input."""
        if self.process is None:
            return
        for pid in sshds_below(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


def sshds_below(pid: int) -> list[int]:
    """The process and those below it that are of sshd, the listener first."""
    found = [pid]
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
            if name.startswith("sshd"):
                parents.setdefault(int(rest.split()[1]), []).append(int(path.parent.name))
    for each in found:
        found += parents.get(each, [])
    return found


@pytest.fixture
def loopback_sshd(tmp_path: Path) -> Iterator[LoopbackSshd]:
    """A running one; its folder and its keys are of this test alone."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{SSHD_PLACES}")
    wanted = {"sshd": program, **{name: shutil.which(name) for name in ("ssh", "ssh-keygen", "ssh-keyscan")}}
    missing = [name for name, found in wanted.items() if not found]
    if not Path("/proc/self/stat").exists():
        missing.append("/proc")
    if missing:
        pytest.skip(f"for a device over loopback there is missing: {', '.join(missing)}")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd of root will not start without it
    assert program is not None
    sshd = LoopbackSshd(tmp_path / "device", program)
    sshd.set_up()
    sshd.start()
    yield sshd
    sshd.stop()


@pytest.fixture
def double() -> bytes:
    """The test double, packed as our own part is."""
    return packed(DOUBLE.encode())


@pytest.fixture
def board(loopback_sshd: LoopbackSshd, double: bytes) -> Iterator[Callable[..., Device]]:
    """Reaches the loopback device, where the double does the jobs; any setting of `connect` can be named."""
    made = []

    def reach(**settings: Any) -> Device:
        made.append(connect("board", **{"config": loopback_sshd.config, "part": double, "patience_s": 0, **settings}))
        return made[-1]

    yield reach
    for device in made:
        device.close()


@pytest.fixture
def gone() -> Callable[[Path, int], bool]:
    """Whether all processes of a file of "pid child" lines have ended; waits for it, far longer than it may take."""

    def wait(pids: Path, lines: int) -> bool:
        told = [line.split() for line in pids.read_text().splitlines()]
        assert len(told) == lines
        for _ in range(250):
            if not any(alive(int(pid)) for line in told for pid in line):
                return True
            time.sleep(0.1)
        return False

    return wait


def alive(pid: int) -> bool:
    """Whether it still runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
