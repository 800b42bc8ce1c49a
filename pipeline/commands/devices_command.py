"""`compress devices`: the devices that have a name, what one says of itself, its host key, and what we left there."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.arguments import command_parser, flags_from
from pipeline.errors import UsageRefused, nearest
from targets.reach.address import Address, address_from, named_addresses
from targets.reach.device import connect
from targets.reach.trust import HostKey, Shown, keys_of, trust

EXAMPLES = """\
examples:
  compress devices                                   those that have a name
  compress devices trust 192.168.1.20                show its host key, and take it after a typed yes
  compress devices trust orin --fingerprint SHA256:…
  compress devices show ssh://me@192.168.1.20        what it is, and what we have left there
  compress devices clean orin                        remove what we have left there

A device is ssh://user@host[:port], or a name of ~/.config/edge-compress/devices.ini:

  [orin]
  address = ssh://me@192.168.1.20
  python = /usr/bin/python3        the Python that works there; default: python3
  folder = ~/.edge-compress        where files that were sent are kept there, so that none is sent twice; default: this
  ssh_config = ~/other/config      instead of ssh's own
"""
ACTIONS = ("trust", "show", "clean")


def devices(arguments: Sequence[str], *, config: Path) -> int:
    """Run `compress devices`; returns the exit code. config: the file of named devices"""
    parser = command_parser("devices", says="The devices that are reached over ssh.", examples=EXAMPLES)
    parser.add_argument("action", metavar="trust|show|clean", nargs="?", help="without it the named ones are listed")
    parser.add_argument("device", metavar="DEVICE", nargs="?", help="an address or a name; for trust also HOST[:PORT]")
    parser.add_argument("--fingerprint", metavar="SHA256:…", help="trust the key that has it, without a question")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    flags = flags_from(parser, arguments)
    if flags.action is None:
        return _list(config, as_json=flags.json)
    if flags.action not in ACTIONS:
        raise UsageRefused(nearest(flags.action, ACTIONS, kind="action") + " `compress devices --help` explains them.")
    if flags.device is None:
        raise UsageRefused(f"which device? `compress devices {flags.action} ssh://user@host`, or a name of {config}.")
    if flags.action == "trust":
        return _trust(_host(flags.device, config), fingerprint=flags.fingerprint)
    with connect(flags.device, config=config) as device:
        if flags.action == "clean":
            done = device.clean()
            busy = f" {done['busy']} jobs or files are in use by another run, and stay." if done["busy"] else ""
            told = {"freed_bytes": done["freed_bytes"], "busy": done["busy"]}
            text = f"{flags.device}: {done['freed_bytes'] / 1e6:.1f} MB are free again.{busy}\n"
        else:
            told = {"schema": 1, "device": flags.device, "facts": device.facts(), "left": device.left()}
            text = _shown(told)
    sys.stdout.write(json.dumps(told, indent=1) + "\n" if flags.json else text)
    return 0


def _list(config: Path, *, as_json: bool) -> int:
    named = named_addresses(config)
    told = [
        {"name": name, "address": _url(address), "python": address.python, "folder": address.folder}
        for name, address in named.items()
    ]
    width = max((len(name) for name in named), default=0)
    lines = [f"{each['name']:<{width}}  {each['address']}" for each in told]
    lines = lines or [f"No device has a name. Names stand in {config}; `compress devices --help` shows how."]
    as_text = "\n".join(lines) + "\n"
    sys.stdout.write(json.dumps({"schema": 1, "devices": told}, indent=1) + "\n" if as_json else as_text)
    return 0


def _url(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    user = f"{address.user}@" if address.user else ""
    return f"ssh://{user}{host}" + (f":{address.port}" if address.port else "")


def _host(given: str, config: Path) -> Address:
    if "://" in given or given in named_addresses(config):
        return address_from(given, config=config)
    return address_from(f"ssh://{given}")


def _trust(address: Address, *, fingerprint: str | None) -> int:
    shown = keys_of(address)
    lines = [f"{shown.name} shows:"] + [f"  {key.kind:<22} {key.fingerprint}" for key in shown.keys]
    sys.stdout.write("\n".join(lines) + "\n")
    if shown.known:
        sys.stdout.write(f"All of this is known already, in {shown.known_hosts}.\n")
        return 0
    keys = _agreed(shown, fingerprint)
    trust(shown, keys)
    sys.stdout.write(f"Added to {shown.known_hosts}: {', '.join(key.kind for key in keys)}.\n")
    return 0


def _agreed(shown: Shown, fingerprint: str | None) -> Sequence[HostKey]:
    """The keys that the user says are the device's own."""
    if fingerprint is not None:
        keys = [key for key in shown.keys if key.fingerprint == fingerprint]
        if not keys:
            raise UsageRefused(
                f"{shown.name} shows no key with the fingerprint {fingerprint}. Nothing was added: somebody else may "
                "answer in its place, or the fingerprint is of another kind of key."
            )
        return keys
    if not sys.stdin.isatty():
        raise UsageRefused("nobody is here to say yes, and nothing was added. Give --fingerprint SHA256:… instead.")
    sys.stdout.write(
        "Compare this with what the device itself says (`ssh-keygen -lf /etc/ssh/ssh_host_….pub` there).\n"
    )
    sys.stdout.write("Is it the device's own? Type yes to trust it from now on: ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        raise UsageRefused("that was no yes, and nothing was added.")
    return shown.keys


def _shown(told: Mapping[str, Any]) -> str:
    left = told["left"]
    facts = list(_flat(told["facts"]))
    width = max((len(name) for name, _ in facts), default=0)
    return "\n".join(
        [
            f"{told['device']}:",
            *(f"  {name:<{width}}  {value}" for name, value in facts),
            f"left there, in {left['folder']}:",
            f"  {left['files']} files that were sent, {left['bytes'] / 1e6:.1f} MB, so that none is sent twice",
            f"  {left['jobs']} jobs that are at work, or whose result was not fetched",
            f"  `compress devices clean {told['device']}` removes them",
            f"  {left['free_bytes'] / 1e9:.1f} GB are free",
            "",
        ]
    )


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """("power.mode", "MAXN") for {"power": {"mode": "MAXN"}}."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value if isinstance(value, str) else json.dumps(value)
