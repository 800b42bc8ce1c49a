"""The way to a device through OpenSSH's own client, so that the user's configuration, keys, agents and jump hosts work.

Nothing is asked (BatchMode) and no host key is taken unseen (StrictHostKeyChecking). One connection carries all calls
(ControlMaster); it ends half a minute after the last one. A link on which nothing comes back is given up after 15 s.
"""

import shutil
import subprocess
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from targets.errors import DeviceMissing, TargetsError
from targets.reach.address import Address
from targets.reach.device_part import FIRST_LINE
from targets.reach.transport import Finished

ALWAYS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ControlMaster": "auto",
    "ControlPersist": "30",
    "ClearAllForwardings": "yes",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "LogLevel": "ERROR",
}
LONGEST_SOCKET = 80  # a socket's path holds 104 characters on some systems, and ssh appends 17 while it makes one
SSH_FAILED = 255


class OpenSsh:
    """One device's way; close it when done."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.shown = address.shown
        self.python = address.python
        self.folder = address.folder
        self._sockets = _private_folder()
        self._tidy = weakref.finalize(self, shutil.rmtree, self._sockets, True)

    def start(self, *, errors: int) -> subprocess.Popen[bytes]:
        """Python there. It does not get this terminal's Ctrl-C: the job there is stopped before the link is cut."""
        command = [*self._ssh(), "--", self.address.host, f"{self.python} -S -c '{FIRST_LINE}'"]
        try:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        except FileNotFoundError as error:
            raise no_program("ssh") from error

    def is_cut(self, finished: Finished) -> bool:
        """ssh's own failures end with 255, as does what a signal ended there: neither says anything of the job."""
        return finished.code == SSH_FAILED or finished.code < 0

    def refusal(self, finished: Finished) -> TargetsError | None:
        """Host keys, users' keys and configuration."""
        said, shown = finished.said, self.shown
        if "IDENTIFICATION HAS CHANGED" in said:
            return DeviceMissing(
                f"THE HOST KEY OF {shown} HAS CHANGED: it was set up anew, or somebody else answers in its place. "
                "Nothing was sent. Compare its fingerprint on the device itself (`ssh-keygen -lf "
                "/etc/ssh/ssh_host_ed25519_key.pub`); only then remove the old key with `ssh-keygen -R` and run "
                f"`compress devices trust {shown}`."
            )
        if "Host key verification failed" in said or "host key is known for" in said:
            return DeviceMissing(
                f"The host key of {shown} is not known here, and none is taken unseen. "
                f"`compress devices trust {shown}` shows its fingerprint and adds it."
            )
        if "Permission denied" in said or "Too many authentication failures" in said:
            return DeviceMissing(
                f"{shown} refuses to let us in: {_last_line(said)} "
                "Put your public key there (`ssh-copy-id`), unlock it in your agent, or name another user."
            )
        if "onfiguration option" in said or "config file" in said.lower() or "Bad owner or permissions" in said:
            return DeviceMissing(f"ssh does not take its configuration for {shown}: {_last_line(said)}")
        return None

    def unreachable(self, finished: Finished) -> TargetsError:
        """Whatever ssh says."""
        return DeviceMissing(
            f"{self.shown} cannot be reached: {_last_line(finished.said) or 'ssh ended without a word'} "
            "Is it switched on, on this network, and does `ssh` reach it by hand?"
        )

    def forget(self) -> None:
        """End the shared connection."""
        if any(self._sockets.iterdir()):
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    [*self._ssh(), "-O", "exit", "--", self.address.host], stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=10,
                )  # fmt: skip
            for each in self._sockets.iterdir():
                each.unlink(missing_ok=True)

    def close(self) -> None:
        """End the shared connection and remove the folder of its socket."""
        if self._tidy.alive:
            self.forget()
            self._tidy()

    def _ssh(self) -> list[str]:
        options = [f"-o{name}={value}" for name, value in ALWAYS.items()]
        return ["ssh", *place_of(self.address), *options, f"-oControlPath={self._sockets}/s"]


def place_of(address: Address) -> list[str]:
    """The arguments of ssh that say where, but for the host."""
    found = ["-F", str(address.ssh_config)] if address.ssh_config is not None else []
    found += ["-p", str(address.port)] if address.port is not None else []
    return [*found, "-l", address.user] if address.user is not None else found


def no_program(name: str) -> DeviceMissing:
    """The sentence for a missing client."""
    return DeviceMissing(
        f"There is no program `{name}` on this machine, and devices are reached with it. "
        "Install the OpenSSH client (Debian: `apt-get install openssh-client`)."
    )


def _private_folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="compress-"))  # readable by its owner only
    if len(str(made)) > LONGEST_SOCKET:
        made.rmdir()
        made = Path(tempfile.mkdtemp(prefix="compress-", dir="/tmp"))
    return made


def _last_line(said: str) -> str:
    """The last line that says something, as a sentence."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"{lines[-1].rstrip('.')}." if lines else ""
