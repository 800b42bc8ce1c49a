"""An ARM64 Python with ONNX Runtime that runs on this machine under qemu-user: no board, no root, no container.

    python tools/arm64_root.py FOLDER [--onnxruntime 1.31.1] [--apt-sources FILE]

leaves FOLDER/bin/python3, which answers as Python of an ARM64 machine, and FOLDER/root, what it runs from: Debian's
arm64 packages of Python, unpacked, and the wheels for ARM64: 190 MB. Needed: a Debian or Ubuntu with apt-get, dpkg-deb,
pip and qemu-aarch64-static (package qemu-user-static). On Ubuntu the packages for ARM64 lie on ports.ubuntu.com, which
has to be named in a sources list of its own, given with --apt-sources.

The root describes the processor that qemu is asked for, a Cortex-A76, in files that stand before the machine's own
/proc/cpuinfo and /sys/devices/system/cpu: ONNX Runtime's reader of processors crashes on those of an x86 machine.
qemu looks into the root for every path, so an empty folder there hides the machine's: none is left.

What is answered there has the bits of an ARM64 machine; how long it took says nothing.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
CPU = "cortex-a76"  # Armv8.2 with the integer dot product and half precision, as a Raspberry Pi 5 or a Jetson Orin has
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgomp1", "zlib1g")
WHEELS_OF_GLIBC = range(36, 16, -1)  # manylinux_2_36 down to manylinux_2_17
# Of a Raspberry Pi 5 (Cortex-A76 r4p1); the numbers are Arm's: 0x41 is Arm itself, 0xd0b the core.
CPUINFO = """processor\t: {core}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
# index, level, size, kind; the last is shared by all cores (Arm, Cortex-A76 Technical Reference Manual; BCM2712)
CACHES = ((0, 1, "64K", "Data"), (1, 1, "64K", "Instruction"), (2, 2, "512K", "Unified"), (3, 3, "2048K", "Unified"))


def main(arguments: Sequence[str]) -> int:
    """Make the root; the exit code."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reader.add_argument("folder", type=Path)
    reader.add_argument("--onnxruntime", default=_installed("onnxruntime"), help="version; default: the one installed")
    reader.add_argument("--apt-sources", type=Path, help="a sources list that has packages for arm64")
    asked = reader.parse_args(arguments)
    folder = asked.folder.resolve()
    emulator = next((found for found in map(shutil.which, EMULATORS) if found), None)
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if emulator is None or missing:
        missing += [] if emulator else ["qemu-aarch64-static (package qemu-user-static)"]
        return _said(f"Missing here: {', '.join(missing)}. Install it, and start again.")
    if folder.exists() and any(folder.iterdir()):
        return _said(f"{folder} is not empty. Name a folder that does not exist yet.")
    root = folder / "root"
    try:
        unpack_packages(folder, root, sources=asked.apt_sources)
        python = next(each for each in sorted((root / "usr/bin").glob("python3.*")) if each.name[8:].isdigit())
        unpack_wheels(folder, root, python=python.name[6:], onnxruntime=asked.onnxruntime)
        keep_what_python_needs(root)
        describe_processor(root, cores=os.cpu_count() or 1)
        wrapper = write_wrapper(folder, emulator=emulator, python=python)
        told = run(
            [str(wrapper), "-c", "import onnxruntime, platform as p; print(p.machine(), onnxruntime.__version__)"]
        )
    except subprocess.CalledProcessError as error:
        return _said(f"{shlex.join(error.cmd[:3])} … failed: {(error.stderr or 'it says nothing').strip()[-400:]}")
    print(f"{wrapper}: {told.strip()}")
    return 0


def unpack_packages(folder: Path, root: Path, *, sources: Path | None) -> None:
    """Debian's packages for ARM64 and what they need, with package lists of our own; nothing is installed."""
    lists, packages = folder / "lists", folder / "packages"
    for each in (lists / "partial", packages, root):
        each.mkdir(parents=True)
    settings = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "Dir::State::Lists": str(lists),
        "Dir::State::status": os.devnull, "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "",
        "Debug::NoLocking": "1",
    }  # fmt: skip
    if sources is not None:
        settings |= {"Dir::Etc::sourcelist": str(sources.resolve()), "Dir::Etc::sourceparts": os.devnull}
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    run([*apt, "update"])
    planned = run([*apt, "--simulate", "--no-install-recommends", "install", *PACKAGES])
    names = [line.split()[1].split(":")[0] for line in planned.splitlines() if line.startswith("Inst ")]
    run([*apt, "download", *names], cwd=packages)
    for package in sorted(packages.glob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(root)])
    shutil.rmtree(lists)
    shutil.rmtree(packages)


def unpack_wheels(folder: Path, root: Path, *, python: str, onnxruntime: str) -> None:
    """ONNX Runtime and numpy for ARM64; importing them takes nothing else."""
    wheels, site = folder / "wheels", root / "opt/site"
    platforms = [f"--platform=manylinux_2_{each}_aarch64" for each in WHEELS_OF_GLIBC]
    wanted = ["numpy", f"onnxruntime=={onnxruntime}" if onnxruntime else "onnxruntime"]
    run([
        sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(wheels),
        f"--python-version={python}", "--implementation=cp", *platforms, "--platform=manylinux2014_aarch64", *wanted,
    ])  # fmt: skip
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(site)
    shutil.rmtree(wheels)


def keep_what_python_needs(root: Path) -> None:
    """Libraries, Python and the wheels: any other folder, an empty one above all, would hide the machine's own."""
    for top in root.iterdir():
        if top.name not in ("lib", "lib64", "usr", "opt"):
            shutil.rmtree(top)
    for each in sorted((path for path in root.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True):
        if not any(each.iterdir()):
            each.rmdir()
    loader = root / "lib/ld-linux-aarch64.so.1"
    if not loader.exists():  # releases whose /lib is a link to /usr/lib ship the link in a package that is not needed
        loader.parent.mkdir(exist_ok=True)
        loader.symlink_to("../usr/lib/ld-linux-aarch64.so.1")


def describe_processor(root: Path, *, cores: int) -> None:
    """What Linux says of a Cortex-A76 with so many cores."""
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text("".join(CPUINFO.format(core=core) for core in range(cores)))
    system, everyone = root / "sys/devices/system/cpu", f"0-{cores - 1}" if cores > 1 else "0"
    for name, line in _processor_files(cores, everyone):
        path = system / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line + "\n")


def _processor_files(cores: int, everyone: str) -> Iterator[tuple[str, str]]:
    yield "kernel_max", str(cores - 1)
    yield from ((name, everyone) for name in ("possible", "present", "online"))
    for core in range(cores):
        own = str(core)
        topology = {
            "physical_package_id": "0", "core_id": own, "core_cpus_list": own, "thread_siblings_list": own,
            "package_cpus_list": everyone, "core_siblings_list": everyone, "cluster_cpus_list": everyone,
        }  # fmt: skip
        yield from ((f"cpu{core}/topology/{name}", line) for name, line in topology.items())
        yield f"cpu{core}/cpufreq/cpuinfo_max_freq", "2400000"  # kHz
        yield f"cpu{core}/cpufreq/cpuinfo_min_freq", "1500000"
        for index, level, size, kind in CACHES:
            shared = everyone if level == 3 else own
            facts = {"level": str(level), "size": size, "type": kind, "shared_cpu_list": shared}
            yield from ((f"cpu{core}/cache/index{index}/{name}", line) for name, line in facts.items())
            yield f"cpu{core}/cache/index{index}/coherency_line_size", "64"


def write_wrapper(folder: Path, *, emulator: str, python: Path) -> Path:
    """FOLDER/bin/python3. It is told that this is its name (-0): what it starts by sys.executable is emulated too."""
    root, wrapper = folder / "root", folder / "bin/python3"
    wrapper.parent.mkdir()
    wrapper.write_text(
        "#!/bin/sh\n"
        "# Python of an ARM64 machine, emulated: its answers count, its times do not.\n"
        f"export PYTHONHOME={shlex.quote(str(root / 'usr'))} PYTHONPATH={shlex.quote(str(root / 'opt/site'))}\n"
        f"exec {shlex.quote(emulator)} -cpu {CPU} -L {shlex.quote(str(root))} -0 {shlex.quote(str(wrapper))} "
        f'{shlex.quote(str(python))} "$@"\n',
        encoding="utf-8",
    )
    wrapper.chmod(0o755)
    return wrapper


def run(command: list[str], *, cwd: Path | None = None) -> str:
    """What it says.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _said(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
