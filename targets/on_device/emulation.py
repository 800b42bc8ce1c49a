"""Does an emulator run this process? Its times would say nothing about the device it plays.

Under qemu-user `os.uname()` names the emulated processor, and the files below /proc that are about this process are
made up. Two witnesses remain: the kernel's own name for its architecture (/proc/sys/kernel/arch, Linux 6.1 and later),
and this process as another one sees it: a child looks at the program that its parent runs, which is then qemu itself.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from targets.on_device.asking import text_of

# e_machine of an ELF file → what os.uname() calls that processor
MACHINES = {3: "i686", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
ELF_HEAD_BYTES = 20


def emulated() -> tuple[bool, str]:
    """Whether this process is emulated, and how that is known."""
    machine = os.uname().machine
    return judged(machine, kernel=text_of(Path("/proc/sys/kernel/arch")), program=_as_a_child_sees_it())


def judged(machine: str, *, kernel: str | None, program: bytes | None) -> tuple[bool, str]:
    """The verdict.

    machine: what this process takes the processor for · kernel: what the kernel calls it, None before Linux 6.1
    program: how the file begins that runs this process, None where no other process may look
    """
    seen = elf_machine(program) if program else None
    if kernel and _family(kernel) != _family(machine):
        return True, "the process takes the processor for %s, the kernel runs on %s" % (machine, kernel)
    if seen and _family(seen) != _family(machine):
        return True, "the process takes the processor for %s, the program that runs it is for %s" % (machine, seen)
    if kernel or seen:
        return False, "%s, as %s" % (machine, "the kernel says" if kernel else "the program that runs is built for")
    return False, "no sign of an emulator; neither the kernel's architecture nor the running program could be read"


def elf_machine(head: bytes) -> str | None:
    """The processor that an ELF file is for, from its first 20 bytes."""
    if len(head) < ELF_HEAD_BYTES or head[:4] != b"\x7fELF":
        return None
    order = "<" if head[5] == 1 else ">"
    number = struct.unpack(order + "H", head[18:20])[0]
    return MACHINES.get(number, "machine %d" % number)


def _family(machine: str) -> str:
    """One word for processors that run each other's programs natively."""
    if machine in ("x86_64", "amd64") or (machine.startswith("i") and machine.endswith("86")):
        return "x86"
    return "arm" if machine.startswith(("arm", "aarch64")) else machine


def _as_a_child_sees_it() -> bytes | None:
    """The first bytes of the program that runs this process, read by a child: for qemu that is another process."""
    read_end, write_end = os.pipe()
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError:
        os.close(read_end)
        os.close(write_end)
        return None
    if child == 0:
        try:
            with open("/proc/%d/exe" % parent, "rb") as program:  # noqa: PTH123 - nothing more than needed after a fork
                os.write(write_end, program.read(ELF_HEAD_BYTES))
        except OSError:
            pass
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        head = pipe.read()
    os.waitpid(child, 0)
    return head or None
