"""Host keys: what a device shows, and how one that the user has seen comes into the file of known hosts.

A key is only ever added. One that differs from what is known is refused here as ssh refuses it: whether the device was
set up anew or somebody else answers is for the user to find out.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from targets.errors import DeviceMissing
from targets.reach.address import Address
from targets.reach.openssh import no_program, place_of

SECONDS = 10
SSH_PORT = "22"


@dataclass(frozen=True)
class HostKey:
    """One key of a device. line: as a file of known hosts has it. fingerprint: SHA256:…"""

    kind: str
    line: str
    fingerprint: str


@dataclass(frozen=True)
class Shown:
    """What a device shows. name: as the file of known hosts calls it. known: whether all of it stands there"""

    name: str
    known_hosts: Path
    keys: tuple[HostKey, ...]
    known: bool


def keys_of(address: Address) -> Shown:
    """Ask a device for its host keys, and look them up.

    Raises:
        DeviceMissing: it does not answer, or answers with another key than the known one.
    """
    settings = dict(line.partition(" ")[::2] for line in _said("ssh", "-G", *place_of(address), "--", address.host))
    for through in ("proxyjump", "proxycommand"):
        if settings.get(through, "none") != "none":
            raise DeviceMissing(
                f"{address.shown} is reached through {settings[through]}, and its keys cannot be asked for from here. "
                f"Run `ssh {address.host}` by hand once, and compare the fingerprint that it shows."
            )
    host, port = settings["hostname"], settings.get("port", SSH_PORT)
    lines = _said("ssh-keyscan", "-T", str(SECONDS), "-p", port, "--", host)
    if not lines:
        raise DeviceMissing(
            f"{address.shown} shows no host key: nothing answers as ssh on port {port} of {host}. "
            "Is it switched on, on this network?"
        )
    name = settings.get("hostkeyalias") or (host if port == SSH_PORT else f"[{host}]:{port}")
    keys = tuple(sorted((_key(name, line) for line in lines if not line.startswith("#")), key=lambda key: key.kind))
    known_hosts = Path(settings["userknownhostsfile"].split()[0]).expanduser()
    known = _known(name, known_hosts)
    for key in keys:
        if key.kind in known and known[key.kind] != key.line.split()[2]:
            raise DeviceMissing(
                f"THE HOST KEY OF {address.shown} HAS CHANGED: {known_hosts} has another {key.kind} key than it shows "
                f"now ({key.fingerprint}). It was set up anew, or somebody else answers in its place. Compare the "
                "fingerprint on the device itself; only if it is the same there: "
                f"`ssh-keygen -R '{name}' -f {known_hosts}`."
            )
    return Shown(name, known_hosts, keys, known=all(key.kind in known for key in keys))


def trust(shown: Shown, keys: Sequence[HostKey]) -> None:
    """Add keys to the file of known hosts, at its end."""
    shown.known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with shown.known_hosts.open("a+b") as file:
        file.seek(0)
        before = file.read()
        start = "\n" if before and not before.endswith(b"\n") else ""
        file.write((start + "".join(key.line + "\n" for key in keys)).encode())


def _key(name: str, line: str) -> HostKey:
    _, kind, key = line.split()[:3]
    listed = _said("ssh-keygen", "-lf", "-", given=f"{name} {kind} {key}\n")
    return HostKey(kind, f"{name} {kind} {key}", listed[0].split()[1])


def _known(name: str, known_hosts: Path) -> dict[str, str]:
    """Kind → key, of the lines for this host."""
    if not known_hosts.exists():
        return {}
    lines = _said("ssh-keygen", "-F", name, "-f", str(known_hosts))
    return {line.split()[1]: line.split()[2] for line in lines if not line.startswith(("#", "@"))}


def _said(*command: str, given: str = "") -> list[str]:
    try:
        ended = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=6 * SECONDS
        )  # fmt: skip
    except FileNotFoundError as error:
        raise no_program(command[0]) from error
    except subprocess.TimeoutExpired as error:
        raise DeviceMissing(f"`{command[0]}` found no end within {6 * SECONDS} s. Try again.") from error
    if ended.returncode != 0 and command[0] == "ssh":
        raise DeviceMissing(f"ssh does not take its configuration: {ended.stderr.strip()}")
    return [line for line in ended.stdout.splitlines() if line.strip()]
