"""Where a device is: `ssh://user@host[:port]`, or a name of the user's file of devices.

    [orin]
    address = ssh://me@192.168.1.20
    python = /usr/bin/python3           the Python that does our jobs there; default: python3
    folder = ~/.edge-compress           where we keep files there; default: this
    ssh_config = ~/.ssh/config          instead of ssh's own configuration

What is written here ends up on a command line, so it is held against a short list of characters first.
"""

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from targets.errors import DeviceMissing

USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9]+)?")  # a name, or IPv6
PYTHON = re.compile(r"[A-Za-z0-9_./~+][A-Za-z0-9_./~+-]*")
FOLDER = re.compile(r"(/|~/)[^\x00-\x1f]*[^\x00-\x1f/]")
KEYS = ("address", "python", "folder", "ssh_config")


@dataclass(frozen=True)
class Address:
    """Where a device is, and how we live there.

    shown: as the user wrote it. user, port: None leaves them to ssh's configuration. python: the program that runs our
    part there. folder: where files are kept there. ssh_config: read instead of ssh's own
    """

    shown: str
    host: str
    user: str | None = None
    port: int | None = None
    python: str = "python3"
    folder: str = "~/.edge-compress"
    ssh_config: Path | None = None


def address_from(text: str, *, config: Path | None = None) -> Address:
    """The address that a text means. config: the file of named devices, which need not exist

    Raises:
        DeviceMissing: it is no address and no name, or says something that cannot be passed on.
    """
    if "://" in text:
        return _from_url(text)
    named = named_addresses(config) if config is not None else {}
    if text not in named:
        names = f"There are: {', '.join(sorted(named))}" if named else "It names none yet"
        where = f" in {config}. {names}; o" if config is not None else ". O"
        raise DeviceMissing(f"There is no device named {text!r}{where}r write ssh://user@host[:port].")
    return named[text]


def named_addresses(config: Path) -> Mapping[str, Address]:
    """Name → address, of a file of devices; none where there is no file.

    Raises:
        DeviceMissing: the file cannot be read, or a line of it makes no sense.
    """
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#",))
    try:
        parser.read_string(config.read_text(encoding="utf-8"), source=str(config))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, configparser.Error) as error:
        said = str(error).splitlines()[0]
        raise DeviceMissing(f"The file of devices {config} cannot be read: {said}. Repair it, or move it away.") from (
            error
        )
    return {name: _from_section(name, parser[name], config) for name in parser.sections()}


def _from_section(name: str, section: Mapping[str, str], config: Path) -> Address:
    where = f"{config}, section [{name}]"
    for key in section:
        if key not in KEYS:
            raise DeviceMissing(f"{where}: {key!r} is not known there. Known are {', '.join(KEYS)}.")
    if "address" not in section:
        raise DeviceMissing(f"{where}: the line `address = ssh://user@host` is missing. Add it.")
    found = replace(_from_url(section["address"]), shown=name)
    if "python" in section:
        found = replace(found, python=_fits(PYTHON, section["python"], what="python", where=where))
    if "folder" in section:
        found = replace(found, folder=_fits(FOLDER, section["folder"], what="folder", where=where))
    if "ssh_config" in section:
        found = replace(found, ssh_config=Path(section["ssh_config"]).expanduser())
    return found


def _from_url(text: str) -> Address:
    form = "Write ssh://user@host, with :port behind it where it is not 22."
    if not text.isprintable() or " " in text:  # urlsplit passes over some of these
        raise DeviceMissing(f"The device address {text!r} has a character that cannot be seen. {form}")
    try:
        parts = urlsplit(text)
        user, host, port = parts.username, parts.hostname, parts.port
    except ValueError as error:
        raise DeviceMissing(f"The device address {text!r} cannot be read: {error}. {form}") from error
    extra = parts.path not in ("", "/") or parts.query or parts.fragment or parts.password is not None
    if parts.scheme != "ssh" or not host or extra or port == 0:
        raise DeviceMissing(f"The device address {text!r} is not of the form that is known here. {form}")
    # urlsplit makes a host lower-case, which ssh's own configuration may not be
    start = parts.netloc.lower().rindex(host)
    host = parts.netloc[start : start + len(host)]
    if user is not None:
        _fits(USER, user, what="user", where=f"The device address {text!r}")
    _fits(HOST, host, what="host", where=f"The device address {text!r}")
    return Address(text, host, user, port)


def _fits(pattern: re.Pattern[str], given: str, *, what: str, where: str) -> str:
    if pattern.fullmatch(given):
        return given
    allowed = {
        "folder": "It begins with / or ~/, and is more than that",
        "python": "It is the name or path of a program, without spaces or arguments",
    }.get(what, "Letters, digits, dots, hyphens and underscores are taken, and no hyphen in front")
    raise DeviceMissing(f"{where}: {given!r} cannot be the {what}. {allowed}.")
