"""The runtimes that this device has: ONNX Runtime, TensorRT (Python, trtexec, library), CUDA.

Importing one of them may crash the process that does it, so another process does it, under a time limit.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from targets.on_device.asking import asked, command_at, listed, text_of

# An import from a slow SD card, or under an emulator, takes its time.
PROBE_LIMIT_S = 120.0
# What `looked_at` does, for an interpreter that has nothing of ours
PROGRAM = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
ask = getattr(module, "get_available_providers", None)
found = {"version": module.__version__, **({"providers": ask()} if ask else {})}
sys.stdout.write("\\n" + json.dumps(found))
"""
SYSTEM_PYTHON = "/usr/bin/python3"
LIBRARIES = ("usr/lib/aarch64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib", "usr/local/lib", "usr/lib64")


def onnxruntime_here() -> dict[str, Any]:
    """{"version", "providers", "python"}, or {"missing": why}."""
    return {**probed("onnxruntime"), "python": sys.executable}


def tensorrt_here(*, root: str = "/") -> dict[str, Any]:
    """{"version": what would be used, "trtexec": {"path", "version"} or None, "python": […], "library": version}."""
    trtexec = trtexec_here(root=root)
    pythons = []
    for python in dict.fromkeys([sys.executable, SYSTEM_PYTHON]):
        if python == sys.executable or not _same_program(python, sys.executable):
            found = probed("tensorrt", python=python)
            if "version" in found:
                pythons.append({"interpreter": python, "version": found["version"]})
    library = library_version(root=root)
    known = [trtexec["version"] if trtexec else None, *(each["version"] for each in pythons), library]
    return {
        "version": next((version for version in known if version), None),
        "trtexec": trtexec,
        "python": pythons,
        "library": library,
    }


def trtexec_here(*, root: str = "/") -> dict[str, Any] | None:
    """Where trtexec is, and the TensorRT of its first line: "&&&& RUNNING TensorRT.trtexec [TensorRT v100300]"."""
    path = command_at("trtexec", root=root)
    if path is None:
        return None
    return {"path": path, "version": banner_version(asked([path, "--help"], limit_s=60)[1])}


def banner_version(said: str) -> str | None:
    """ "10.3.0" from v100300, "8.5.2" from v8502: two digits for each part but the first, one before TensorRT 10."""
    found = re.search(r"\[TensorRT v(\d+)\]", said)
    if not found:
        return None
    number = int(found.group(1))
    if number < 10000:
        return "%d.%d.%d" % (number // 1000, number // 100 % 10, number % 100)
    return "%d.%d.%d" % (number // 10000, number // 100 % 100, number % 100)


def library_version(*, root: str = "/") -> str | None:
    """The version in the name of libnvinfer, else the one that dpkg has."""
    for folder in LIBRARIES:
        for path in listed(Path(root) / folder, "libnvinfer.so.*"):
            found = re.fullmatch(r"libnvinfer\.so\.(\d+\.\d+\.\d+)", path.name)
            if found:
                return found.group(1)
    dpkg = command_at("dpkg-query") if root == "/" else None  # dpkg tells of this machine, not of a tree
    for package in ("libnvinfer10", "libnvinfer8", "libnvinfer11") if dpkg else ():
        code, said = asked([str(dpkg), "-W", "-f=${Version}", package])
        if code == 0 and said:
            return said.split("-")[0]
    return None


def cuda_here(*, root: str = "/") -> str | None:
    """The version of the CUDA toolkit, from its own file or the name of its runtime library."""
    top = Path(root) / "usr/local"
    for folder in [top / "cuda", *reversed(listed(top, "cuda-*"))]:
        try:
            return str(json.loads(text_of(folder / "version.json") or "")["cuda"]["version"])
        except (ValueError, KeyError, TypeError):
            pass
        found = re.search(r"CUDA Version ([\d.]+)", text_of(folder / "version.txt") or "")
        if found:
            return found.group(1)
        for path in [*listed(folder / "lib64", "libcudart.so.*"), *listed(folder, "targets/*/lib/libcudart.so.*")]:
            numbers = path.name[len("libcudart.so.") :]
            if numbers.count(".") >= 1:
                return numbers
    return None


def looked_at(name: str) -> dict[str, Any]:
    """Import a runtime and ask it for its version, and ONNX Runtime for its providers."""
    module = import_module(name)
    ask = getattr(module, "get_available_providers", None)
    return {"version": str(module.__version__), **({"providers": ask()} if ask else {})}


def probed(module: str, *, python: str | None = None) -> dict[str, Any]:
    """What a runtime says of itself in another process; {"missing": why} where the import fails, crashes or hangs."""
    place = python or sys.executable
    code, said = asked([place, "-c", PROGRAM, module], limit_s=PROBE_LIMIT_S)
    if code is None and "did not end" not in said and place == sys.executable:
        return _probed_by_a_child(module)  # an emulated process cannot start its own interpreter again
    lines = said.splitlines() or [""]
    if code == 0:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    why = "the process that imports it was ended by signal %d" % -code if code is not None and code < 0 else lines[-1]
    return {"missing": why[:300]}


def _probed_by_a_child(module: str) -> dict[str, Any]:
    """The same by a copy of this process."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = looked_at(module)
        except BaseException as error:  # noqa: BLE001 - a runtime may fail in any way when it is imported
            answer = {"missing": f"{type(error).__name__}: {error}"[:300]}
        os.write(write_end, json.dumps(answer).encode())
        os._exit(0)
    os.close(write_end)
    said = _read_until(read_end, time.monotonic() + PROBE_LIMIT_S)
    if said is None:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if said:
        found: dict[str, Any] = json.loads(said)
        return found
    ended = "did not end in time" if said is None else "was ended by signal %d" % (status & 0x7F)
    return {"missing": "the process that imports it " + ended}


def _read_until(pipe: int, deadline: float) -> bytes | None:
    parts: list[bytes] = []
    with os.fdopen(pipe, "rb", buffering=0) as file:
        while select.select([file], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = file.read(65536)
            if not part:
                return b"".join(parts)
            parts.append(part)
    return None


def _same_program(one: str, other: str) -> bool:
    """Whether two interpreters are one; that of a virtual environment has other packages than the one it links to."""
    same = os.path.realpath(one) == os.path.realpath(other) and sys.prefix == sys.base_prefix
    return same or not Path(one).exists()
