"""Lock power mode and clocks for a measurement, where that is permitted, and always put them back.

    Jetson    jetson_clocks --store FILE · nvpmodel -m ID (a reboot is answered with no) · jetson_clocks
              and back: nvpmodel -m ID of before · jetson_clocks --restore FILE
    desktop   nvidia-smi -lgc HIGHEST,HIGHEST · and back: nvidia-smi -rgc

What was before is written down first, beside the jobs; it is taken away when it has been put back. So a job that was
killed leaves the note, and the next one puts back first. sudo is asked with -n: it never waits for a password.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Iterator

from targets.on_device.asking import asked, command_at, text_of
from targets.on_device.events import says
from targets.on_device.jetson import power_mode, power_modes
from targets.on_device.nvidia_smi import gpus
from targets.on_device.power import as_root

NOTE, STORE = "clocks.json", "clocks.store"
STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
HOME_FOLDER = "~/.edge-compress"


class NotPermitted(Exception):
    """Why the clocks stay as they are."""


def kept_folder(folder: Path) -> Path:
    """Where notes outlive a job: above the folder of jobs, else below the home."""
    above = folder.parent.parent
    return above if os.access(str(above / "blobs"), os.F_OK) else Path(HOME_FOLDER).expanduser()


def held_clocks(job: dict[str, Any], folder: Path) -> AbstractContextManager[dict[str, Any]]:
    """Power mode and clocks held meanwhile, where the settings "lock_clocks" and "power_mode" of a job ask for it."""
    settings = job.get("settings") or {}
    return locked_clocks(
        wanted=bool(settings.get("lock_clocks") or settings.get("power_mode")), keep=kept_folder(folder),
        mode=settings.get("power_mode"), root=str(job.get("root") or "/"),
    )  # fmt: skip


@contextmanager
def locked_clocks(*, wanted: bool, keep: Path, mode: str | None = None, root: str = "/") -> Iterator[dict[str, Any]]:
    """Gives {"locked", "why", "tool", "mode"}; "restored" is added at the end.

    wanted: whether the user asked for it · keep: the folder of the note, see kept_folder
    mode: the name of the power mode to measure in; None leaves it as it is
    """
    restore_left_over(keep=keep, root=root)
    report: dict[str, Any] = {"locked": False, "why": "not asked for", "tool": None, "mode": None}
    if not wanted:
        yield report
        return
    handlers = {stop: signal.signal(stop, _stopped) for stop in STOPS} if _main_thread() else {}
    try:
        try:
            report.update(lock(keep=keep, mode=mode, root=root))
        except NotPermitted as why:
            report["why"] = str(why)
            if _noted(keep).get("pid") == os.getpid():
                report["restored"] = restore(keep=keep, root=root)  # of a change that came before the one that failed
            says(f"The clocks stay as they are: {why}")
        yield report
    finally:
        for stop in handlers:
            signal.signal(stop, signal.SIG_IGN)  # putting back is not to be interrupted
        if _noted(keep).get("pid") == os.getpid():
            report["restored"] = restore(keep=keep, root=root)
        for stop, handler in handlers.items():
            signal.signal(stop, handler or signal.SIG_DFL)


def lock(*, keep: Path, mode: str | None = None, root: str = "/") -> dict[str, Any]:
    """Write down what is, then change it; NotPermitted where that cannot be done."""
    if _noted(keep):
        raise NotPermitted("another job holds them locked, or they could not be put back after an earlier one.")
    if command_at("jetson_clocks", root=root):
        return _lock_jetson(keep=keep, mode=mode, root=root)
    if command_at("nvidia-smi", root=root):
        return _lock_desktop(keep=keep, root=root)
    raise NotPermitted("neither jetson_clocks nor nvidia-smi is here.")


def restore_left_over(*, keep: Path, root: str = "/") -> bool:
    """Put back what an earlier job locked and did not put back, saying so; whether there was anything.

    What a job holds that still runs is left alone.
    """
    if not left_locked(keep):
        return False
    _tell("An earlier job was killed while it held the clocks locked: they are put back first.")
    return restore(keep=keep, root=root)


def left_locked(keep: Path) -> bool:
    """Whether a job that is gone left the clocks locked."""
    return bool(_noted(keep)) and not _runs(_noted(keep))


def restore(*, keep: Path, root: str = "/") -> bool:
    """As the note says; it stays where that fails, and the user is told the commands."""
    failed = []
    for command in _noted(keep).get("back") or ():
        code, said = asked([*as_root(root=root), *command], limit_s=60, answer="no\n")
        if code != 0:
            failed.append(f"{' '.join(command)} ({_short(said)})")
    if failed:
        _tell(f"The clocks could not be put back: {'; '.join(failed)}. Run this as root, or restart the device.")
        return False
    for name in (NOTE, STORE):
        if (keep / name).exists():
            (keep / name).unlink()
    return True


def _lock_jetson(*, keep: Path, mode: str | None, root: str) -> dict[str, Any]:
    clocks, nvpmodel = command_at("jetson_clocks", root=root), command_at("nvpmodel", root=root)
    before, known = power_mode(root=root), power_modes(root=root)
    if mode is not None and (nvpmodel is None or before is None):
        raise NotPermitted("nvpmodel does not tell the power mode, so it cannot be set and put back.")
    if mode is not None and mode not in known:
        raise NotPermitted(
            f"no power mode here is named {mode!r}; there are {', '.join(known) or 'none that it tells'}."
        )
    _make(keep)
    store = keep / STORE
    if store.exists():
        store.unlink()  # jetson_clocks does not write over an older one
    _must([str(clocks), "--store", str(store)], root=root)
    back = [[str(clocks), "--restore", str(store)]]
    change = before is not None and mode not in (None, before["name"])
    if before is not None and change:
        back.insert(0, [str(nvpmodel), "-m", str(before["id"])])
    _write_note(keep, back)
    why = "locked"
    if before is not None and change:
        asked([*as_root(root=root), str(nvpmodel), "-m", str(known[str(mode)])], limit_s=60, answer="no\n")
        now = power_mode(root=root)
        if now is None or now["name"] != mode:
            why = f"the power mode stays {before['name']}: {mode} needs a restart of the device, or more rights"
            says(f"Clocks are locked, but {why}.")
    _must([str(clocks)], root=root)
    now = power_mode(root=root)
    return {"locked": True, "why": why, "tool": "jetson_clocks", "mode": now["name"] if now else None}


def _lock_desktop(*, keep: Path, root: str) -> dict[str, Any]:
    smi, found = str(command_at("nvidia-smi", root=root)), gpus(root=root)
    highest = [gpu["clock_max_mhz"] for gpu in found if gpu.get("clock_max_mhz")]
    if not highest:
        raise NotPermitted("nvidia-smi does not tell the GPU's highest clock.")
    _make(keep)
    _write_note(keep, [[smi, "-rgc"]])
    try:
        _must([smi, "-lgc", f"{min(highest)},{min(highest)}"], root=root)
    except NotPermitted:
        (keep / NOTE).unlink()  # nothing was changed
        raise
    return {"locked": True, "why": "locked", "tool": "nvidia-smi", "mode": None}


def _must(command: list[str], *, root: str) -> None:
    prefix = as_root(root=root)
    code, said = asked([*prefix, *command], limit_s=60)
    if code == 0:
        return
    if "password" in said:
        raise NotPermitted(f"sudo asks for a password for {command[0]}; allow it without one in /etc/sudoers.d.")
    raise NotPermitted(f"{' '.join(command)} failed: {_short(said)}")


def _make(keep: Path) -> None:
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotPermitted(f"{keep} cannot be made to note what was before: {error.strerror}.") from error


def _write_note(keep: Path, back: list[list[str]]) -> None:
    beside = keep / (NOTE + ".part")
    with beside.open("w", encoding="utf-8") as file:
        json.dump({"back": back, "pid": os.getpid(), "began": _began(os.getpid())}, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(keep / NOTE)


def _noted(keep: Path) -> dict[str, Any]:
    """The note: {"back": commands, "pid", "began"}; empty where there is none."""
    try:
        found: dict[str, Any] = json.loads(text_of(keep / NOTE) or "{}")
    except ValueError:
        return {}
    return found


def _runs(note: dict[str, Any]) -> bool:
    """Whether the process that wrote it is still there: a number is given anew, so when it began counts too."""
    return bool(note.get("began")) and _began(int(note["pid"])) == note["began"]


def _began(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None where it is gone, or dead and not yet taken away."""
    words = (text_of(Path("/proc/%d/stat" % pid)) or "").rpartition(")")[2].split()
    return words[19] if len(words) > 19 and words[0] != "Z" else None  # field 22 of proc(5), counted behind the name


def _tell(text: str) -> None:
    """Putting back goes on when nobody is there to be told."""
    with suppress(OSError):
        says(text)


def _stopped(number: int, frame: Any) -> None:
    """The signal would have ended us at once: this way what was locked is put back."""
    raise KeyboardInterrupt


def _main_thread() -> bool:
    """Only there may signals be caught."""
    import threading

    return threading.current_thread() is threading.main_thread()


def _short(said: str) -> str:
    return (said.splitlines() or ["it said nothing"])[-1][:200]
