"""What goes over to a device: one file that does the jobs, and the keeper that is told anew with every call.

The file is a zip application (`python3 on_device.pyz WHAT FOLDER`): `targets/on_device/` with its `start.py` as
`__main__.py`. Stored, not compressed, in one order and with one date, so that the same source gives the same bytes, and
the device already has them.
"""

import io
import zipfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "on_device"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold
PACKAGE = '"""The part of targets that runs on a device."""\n'

# What the device's Python is started with. It must be readable by any Python and by any shell between single quotes.
FIRST_LINE = (
    "import sys; sys.version_info >= (3, 8) or sys.exit('PYTHON %d.%d' % sys.version_info[:2]); "
    "exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
).replace("'", '"')

KEEPER = ("events", "failures", "kept_files", "job_watch", "keeper")  # each needs only those before it
KEEPER_STARTS = """\
import os, sys, types
def module(name, source, path):
    made = types.ModuleType(name)
    made.__path__ = path
    sys.modules[name] = made
    exec(compile(source, name, "exec"), made.__dict__)
for name in ("targets", "targets.on_device"):
    module(name, "", [])
for name, source in {sources!r}:
    module("targets.on_device." + name, source, [])
code = sys.modules["targets.on_device.keeper"].keep()
try:
    sys.stdout.flush()
except OSError:
    pass
os._exit(code)  # a thread may still wait for standard input
"""


def packed(start: bytes | None = None) -> bytes:
    """The file that does the jobs. start: what stands in for `start.py` as its first file"""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "__main__.py", (SOURCES / "start.py").read_bytes() if start is None else start)
        _add(archive, "targets/__init__.py", PACKAGE.encode())
        for path in sorted(SOURCES.glob("*.py")):
            _add(archive, f"targets/on_device/{path.name}", path.read_bytes())
    return found.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, LONG_AGO)
    entry.create_system = 3  # Unix, also where it is packed on something else
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def keeper() -> bytes:
    """The source of the keeper, as FIRST_LINE reads it: its length on a line, then all of it."""
    sources = [(name, (SOURCES / f"{name}.py").read_text(encoding="utf-8")) for name in KEEPER]
    program = KEEPER_STARTS.format(sources=sources).encode()
    return b"%d\n%s" % (len(program), program)
