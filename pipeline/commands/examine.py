"""What is installed on this machine and what it is made of, found out without failing where something is missing."""

import importlib
import importlib.util
import platform
import re
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from targets.errors import TargetsError
from targets.find import target_named, target_names
from targets.reach.local import describe_machine

# Package, the module it is imported as, and what it is needed for.
NEEDED = (
    ("torch", "torch", "every stage that trains"),
    ("numpy", "numpy", "everything"),
    ("onnx", "onnx", "export"),
    ("onnxruntime", "onnxruntime", "building and measuring on x86-cpu"),
    ("lightning-fabric", "lightning_fabric", "training, in one process or several"),
    ("torch-pruning", "torch_pruning", "the stage prune"),
    ("pytorch-quantization", "pytorch_quantization", "the stage quantize"),
    ("safetensors", "safetensors", "files of weights"),
    ("scikit-learn", "sklearn", "the recipe digits"),
    ("pillow", "PIL", "folders of pictures"),
    ("rich", "rich", "progress on a terminal"),
)
TRTEXEC = Path("/usr/src/tensorrt/bin/trtexec")  # where NVIDIA's packages for JetPack and Debian put it


@dataclass(frozen=True)
class Package:
    """One package. wanted: the range this program asks for, or "" · problem: why it cannot be used, or ""."""

    name: str
    version: str | None
    wanted: str
    problem: str
    needed_for: str


def packages() -> list[Package]:
    """Every package that this program needs."""
    try:
        lines = requires("edge-compress") or []
    except PackageNotFoundError:
        lines = []
    wanted = {match[1].lower(): match[2] for line in lines if (match := re.match(r"([\w.-]+)\s*([^;]*)$", line))}
    return [_package(name, module, wanted.get(name, "").strip("() "), what) for name, module, what in NEEDED]


def _package(name: str, module: str, wanted: str, needed_for: str) -> Package:
    install = f"install it with: pip install '{name}{wanted}'"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Package(name, None, wanted, f"not installed; {install}", needed_for)
    problem = "" if in_range(found, wanted) else f"outside of {wanted}; {install}"
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a broken installation may raise anything, and is what we look for
        problem = f"installed, but importing it fails ({type(error).__name__}: {error}); {install}"
    return Package(name, found, wanted, problem, needed_for)


def in_range(found: str, wanted: str) -> bool:
    """Whether a version such as '2.13.0+cpu' is in a range such as '>=2.10,<2.14'; the numbers alone are compared."""
    have = _numbers(found)
    for part in filter(None, wanted.replace(" ", "").split(",")):
        match = re.match(r"(>=|<=|==|!=|<|>)(.+)", part)
        if match is None:
            continue
        bound = _numbers(match[2])
        length = max(len(have), len(bound))
        ours, theirs = have + (0,) * (length - len(have)), bound + (0,) * (length - len(bound))
        holds = {
            ">=": ours >= theirs, "<=": ours <= theirs, "==": ours == theirs, "!=": ours != theirs,
            "<": ours < theirs, ">": ours > theirs,
        }  # fmt: skip
        if not holds[match[1]]:
            return False
    return True


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def machine() -> dict[str, Any]:
    """Processor, cores, memory, and the room for results in the present folder."""
    here = describe_machine()
    return {**asdict(here), "python": platform.python_version(), "free_disk_bytes": shutil.disk_usage(Path.cwd()).free}


def targets() -> list[dict[str, Any]]:
    """Each device: whether engines for it can be built and measured on this machine, and why not."""
    return [_target(name) for name in target_names()]


def _target(name: str) -> dict[str, Any]:
    try:
        target = target_named(name)
        runtime = target.engine.runtime
        target.must_be_here()
    except (TargetsError, ImportError) as error:
        return {"name": name, "works": False, "why_not": str(error), "runtime": None, "scheme": None, "answers": True}
    return {
        "name": name, "works": True, "why_not": None, "runtime": runtime, "scheme": asdict(target.scheme()),
        "answers": target.answers,
    }  # fmt: skip


def accelerators() -> list[dict[str, Any]]:
    """What would train or run faster: found, or what it would be good for and how to come by it."""
    return [_gpus(), _providers(), _tensorrt(), _trtexec(), _openvino()]


def _row(name: str, found: str | None, needed_for: str, install: str) -> dict[str, Any]:
    return {"name": name, "found": found, "needed_for": needed_for, "install": None if found else install}


def _gpus() -> dict[str, Any]:
    found = None
    try:
        import torch

        count = torch.cuda.device_count()
        found = ", ".join(torch.cuda.get_device_name(each) for each in range(count)) or None
    except Exception:  # noqa: BLE001 - torch itself may be broken; packages() says so
        pass
    return _row("NVIDIA GPU", found, "training faster", "a GPU with its driver, and torch built for CUDA")


def _providers() -> dict[str, Any]:
    found = None
    try:
        import onnxruntime

        found = ", ".join(onnxruntime.get_available_providers())
    except Exception:  # noqa: BLE001 - packages() says so
        pass
    return _row("ONNX Runtime providers", found, "building and measuring on x86-cpu", "pip install onnxruntime")


def _tensorrt() -> dict[str, Any]:
    found = _version_if_there("tensorrt")
    return _row(
        "TensorRT (Python)", found, "engines for NVIDIA devices", "JetPack brings it; elsewhere pip install tensorrt"
    )


def _trtexec() -> dict[str, Any]:
    found = shutil.which("trtexec") or (str(TRTEXEC) if TRTEXEC.is_file() else None)
    return _row("trtexec", found, "looking into engines for NVIDIA devices", "part of TensorRT's own packages")


def _openvino() -> dict[str, Any]:
    found = _version_if_there("openvino")
    return _row(
        "OpenVINO", found, "a second engine on x86-cpu, handed over where it is the faster one",
        "pip install 'edge-compress[openvino]'",
    )  # fmt: skip


def _version_if_there(module: str) -> str | None:
    """The version of an installed module, which is not imported."""
    if importlib.util.find_spec(module) is None:
        return None
    try:
        return version(module)
    except PackageNotFoundError:
        return "of unknown version"
