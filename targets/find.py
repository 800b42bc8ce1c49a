"""A target by its name, or by the path of a user's own file.

The names are the files of `targets/devices/`: x86_cpu.py is "x86-cpu". Each holds a `TARGET`.
"""

import importlib
import importlib.util
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from targets.errors import UnknownTarget
from targets.target import Target

DEVICES = Path(__file__).parent / "devices"


def target_names() -> tuple[str, ...]:
    """Every target that exists, in alphabetical order."""
    return tuple(sorted(file.stem.replace("_", "-") for file in DEVICES.glob("*.py") if file.stem != "__init__"))


def target_named(name: str) -> Target:
    """The target of this name, or the one in the file at this path.

    Raises:
        UnknownTarget: no such name or file, or the file holds no TARGET.
    """
    if name in target_names():
        return _target_in(importlib.import_module(f"targets.devices.{name.replace('-', '_')}"), place=name)
    if name.endswith(".py"):
        return _target_in(_module_from_file(Path(name)), place=name)
    known = target_names()
    near = get_close_matches(name.lower().replace("_", "-"), known, n=1)
    question = f" Did you mean {near[0]}?" if near else ""
    raise UnknownTarget(
        f"There is no target '{name}'.{question} Targets are: {', '.join(known)}; "
        "or give the path of your own .py file."
    )


def _module_from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UnknownTarget(f"There is no file {path}. Give the path of a .py file that holds TARGET = Target(…).")
    spec = importlib.util.spec_from_file_location(f"a_users_target_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UnknownTarget(f"{path} cannot be read as Python.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UnknownTarget(f"{path} cannot be run: {type(error).__name__}: {error}. Repair the file.") from error
    return module


def _target_in(module: ModuleType, *, place: str) -> Target:
    target = getattr(module, "TARGET", None)
    if not isinstance(target, Target):
        raise UnknownTarget(f"{place} holds no TARGET. A device file ends with TARGET = Target(…).")
    return target
