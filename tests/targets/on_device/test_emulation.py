"""Emulated or not, from what the kernel says and from the program that runs."""

import json
import os
import struct
import subprocess
from pathlib import Path

import pytest

from targets.on_device.emulation import elf_machine, emulated, judged

QEMU = Path("/usr/bin/qemu-aarch64-static")
REPOSITORY = Path(__file__).resolve().parents[3]


def elf(machine: int, *, big: bool = False) -> bytes:
    """The first 20 bytes of a program for that machine."""
    order = ">" if big else "<"
    return b"\x7fELF" + bytes([2, 2 if big else 1, 1]) + bytes(9) + struct.pack(order + "HH", 2, machine)


@pytest.mark.parametrize(("number", "name"), [(62, "x86_64"), (183, "aarch64"), (9999, "machine 9999")])
def test_byte_18_of_an_elf_file_names_the_processor(number: int, name: str) -> None:
    assert elf_machine(elf(number)) == name
    assert elf_machine(elf(number, big=True)) == name


def test_19_bytes_or_a_script_name_no_processor() -> None:
    assert elf_machine(elf(62)[:19]) is None
    assert elf_machine(b"#!/bin/sh\n" + bytes(20)) is None


@pytest.mark.parametrize(
    ("machine", "kernel", "program", "expected"),
    [
        ("aarch64", "x86_64", None, True),
        ("aarch64", None, elf(62), True),
        ("aarch64", "aarch64", elf(183), False),
        ("armv7l", "aarch64", elf(40), False),  # a 32-bit userland on a 64-bit kernel runs natively
        ("x86_64", "x86_64", elf(62), False),
        ("i686", "x86_64", None, False),
        ("x86_64", "aarch64", None, True),
        ("aarch64", None, None, False),
    ],
)
def test_any_1_of_the_2_witnesses_is_enough(
    machine: str, kernel: str | None, program: bytes | None, expected: bool
) -> None:
    yes, why = judged(machine, kernel=kernel, program=program)
    assert yes is expected
    assert machine in why or (kernel is None and program is None)


def test_this_very_process_is_judged_in_1_sentence() -> None:
    yes, why = emulated()
    assert isinstance(yes, bool)
    assert why
    kernel = Path("/proc/sys/kernel/arch")
    if kernel.exists():
        assert yes is (kernel.read_text().strip() != os.uname().machine)


def test_qemu_is_found_out_by_both_of_2_witnesses() -> None:
    named = os.environ.get("EDGE_COMPRESS_ARM64_ROOT")
    root = Path(named) / "root" if named else None  # of the folder that tools/arm64_root.py made
    python = root / "usr/bin/python3.11" if root else None
    missing = [] if QEMU.exists() else [str(QEMU)]
    if python is None or not python.exists():
        missing.append("EDGE_COMPRESS_ARM64_ROOT, the folder that `tools/arm64_root.py FOLDER` made")
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")
    program = (
        "import json, os\n"
        "from targets.on_device.emulation import _as_a_child_sees_it, emulated, judged\n"
        "machine, seen = os.uname().machine, _as_a_child_sees_it()\n"
        "print(json.dumps([emulated(), judged(machine, kernel=None, program=seen)]))\n"
    )
    environment = {"PYTHONHOME": f"{root}/usr", "PYTHONPATH": str(REPOSITORY), "PATH": os.defpath}
    command = [str(QEMU), "-L", str(root), "-E", "LD_LIBRARY_PATH=/lib/aarch64-linux-gnu", str(python), "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    (both, why), (child, why_child) = json.loads(done.stdout)
    assert both is True and "aarch64" in why
    assert child is True and "aarch64" in why_child
