"""Stand-ins for the commands of a Jetson, one program under several names: nvpmodel, jetson_clocks, sudo, tegrastats.

It changes the files of its own tree as the real ones change the system's, and appends every command line to a log.
Settings: standin.json in the folder above `bin`:

    mode            the power mode now · reboot_modes: those that cannot be set without a reboot
    sudo            "allowed", or "password": then sudo -n refuses
    fails           the command line that fails, as in the log
"""

import json
import os
import sys
from pathlib import Path

from jetson_tree import GPU, MODES, clock_files, write_files

KINDS = ("min", "max", "cur")
AS_ROOT = "STANDIN_JETSON_ROOT"  # sudo sets it; this process may itself be root, on a machine that is no Jetson


def main(name: str, arguments: list[str], folder: Path) -> int:
    """Do as the command of that name does."""
    settings = json.loads((folder / "standin.json").read_text(encoding="utf-8"))
    line = " ".join([name, *arguments])
    with (folder / "commands.log").open("a", encoding="utf-8") as log:
        log.write(line.replace(str(folder / "bin") + "/", "") + "\n")
    if settings.get("fails") and line == settings["fails"]:
        print("Error: the stand-in was told to fail here")
        return 1
    does = {"nvpmodel": nvpmodel, "jetson_clocks": jetson_clocks, "sudo": sudo, "tegrastats": tegrastats}
    return does[name](arguments, folder, settings)


def sudo(arguments: list[str], folder: Path, settings: dict[str, str]) -> int:
    if arguments[:1] != ["-n"]:
        print("the stand-in's sudo waits for a password, for ever")
        return 1
    if settings["sudo"] != "allowed":
        print("sudo: a password is required")
        return 1
    os.environ[AS_ROOT] = "1"
    return int(os.execvp(arguments[1], arguments[1:]))


def nvpmodel(arguments: list[str], folder: Path, settings: dict[str, str]) -> int:
    if arguments == ["-q"]:
        print(f"NV Power Mode: {settings['mode']}\n{MODES[settings['mode']][0]}")
        return 0
    names = {str(number): name for name, (number, *_) in MODES.items()}
    if len(arguments) != 2 or arguments[0] != "-m" or arguments[1] not in names:
        print("NVPM ERROR: invalid mode")
        return 1
    if AS_ROOT not in os.environ:
        print("NVPM ERROR: Need root access")
        return 1
    wanted = names[arguments[1]]
    if wanted in settings["reboot_modes"] and wanted != settings["mode"]:
        print(f"NVPM WARN: Reboot required for changing to this power mode: {arguments[1]}")
        print("NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:", flush=True)
        answer = sys.stdin.readline().strip()
        with (folder / "commands.log").open("a", encoding="utf-8") as log:
            log.write("REBOOT\n" if answer in ("yes", "YES") else f"(asked for a reboot, answered {answer})\n")
        return 0
    write_files(folder / "root", clock_files(wanted))
    settings["mode"] = wanted
    (folder / "standin.json").write_text(json.dumps(settings), encoding="utf-8")
    return 0


def jetson_clocks(arguments: list[str], folder: Path, settings: dict[str, str]) -> int:
    if AS_ROOT not in os.environ:
        print("Please run as root")
        return 1
    root = folder / "root"
    if arguments == ["--show"]:
        values = {name: (root / GPU / f"{name}_freq").read_text(encoding="utf-8").strip() for name in KINDS}
        print("SOC family:tegra234  Machine:stand-in")
        print(f"GPU MinFreq={values['min']} MaxFreq={values['max']} CurrentFreq={values['cur']}")
        print(f"NV Power Mode: {settings['mode']}")
    elif arguments[:1] == ["--store"]:
        files = {name: (root / name).read_text(encoding="utf-8") for name in clock_files(settings["mode"])}
        Path(arguments[1]).write_text(json.dumps(files), encoding="utf-8")
    elif arguments[:1] == ["--restore"]:
        write_files(root, json.loads(Path(arguments[1]).read_text(encoding="utf-8")))
    elif not arguments:
        write_files(root, clock_files(settings["mode"], locked=True))
    else:
        print("Error: unknown option")
        return 1
    return 0


def tegrastats(arguments: list[str], folder: Path, settings: dict[str, str]) -> int:
    print("01-01-2026 00:00:00 RAM 2850/7486MB (stand-in) GR3D_FREQ 0%@[305] gpu@46.7C VDD_IN 5040mW/5040mW")
    return 0
