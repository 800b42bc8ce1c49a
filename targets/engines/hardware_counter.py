"""Instructions as the processor counts them: Linux's perf_event_open, called without the perf tool.

Counts what this process and the threads that it starts later retire in user space, while switched on. Virtual machines
often have no such counter, and containers often forbid the call; `why_not` says which.

The kernel's struct perf_event_attr in its first published form, 64 bytes (man 2 perf_event_open):

    type u32 · size u32 · config u64 · sample_period u64 · sample_type u64 · read_format u64 · flags u64 ·
    wakeup_events u32 · bp_type u32 · config1 u64
"""

import ctypes
import errno
import fcntl
import os
import platform
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from targets.errors import EngineFailed

HARDWARE, INSTRUCTIONS = 0, 1  # PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS
SOFTWARE, TASK_CLOCK = 1, 1  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK: in ns, and there on every Linux
DISABLED, INHERIT, PINNED, NO_KERNEL, NO_HYPERVISOR = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6
ENABLE, DISABLE, RESET = 0x2400, 0x2401, 0x2403  # _IO('$', 0), 1 and 3
CLOSE_ON_EXEC = 8
LAYOUT = "=IIQQQQQIIQ"
NUMBERS = {"x86_64": 298, "amd64": 298, "aarch64": 241, "arm64": 241}  # of the system call


def attributes(kind: int, config: int) -> bytes:
    """The struct: counted in user space, in threads started later too, never in turns with somebody else's counter."""
    flags = DISABLED | INHERIT | PINNED | NO_KERNEL | NO_HYPERVISOR
    return struct.pack(LAYOUT, kind, struct.calcsize(LAYOUT), config, 0, 0, 0, flags, 0, 0, 0)


class Counter:
    """One counter of this process, off at first."""

    def __init__(self, kind: int = HARDWARE, config: int = INSTRUCTIONS) -> None:
        """Open it.

        Raises:
            OSError: the kernel does not give it.
        """
        number = NUMBERS.get(platform.machine().lower())
        if number is None or not sys.platform.startswith("linux"):
            raise OSError(errno.ENOSYS, f"no counter is known for {sys.platform} on {platform.machine()}")
        libc = ctypes.CDLL(None, use_errno=True)
        asked = ctypes.create_string_buffer(attributes(kind, config), struct.calcsize(LAYOUT))
        this_process, any_core, no_group = ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_int(-1)
        libc.syscall.restype = ctypes.c_long
        place = libc.syscall(
            ctypes.c_long(number), asked, this_process, any_core, no_group, ctypes.c_ulong(CLOSE_ON_EXEC)
        )
        if place < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._place = int(place)

    def start(self) -> None:
        """Count from nought."""
        fcntl.ioctl(self._place, RESET, 0)
        fcntl.ioctl(self._place, ENABLE, 0)

    def stop(self) -> int:
        """Count no further; what was counted.

        Raises:
            EngineFailed: another program holds the processor's counter.
        """
        fcntl.ioctl(self._place, DISABLE, 0)
        read = os.read(self._place, 8)
        if len(read) != 8:  # a pinned counter that found no place reads as the end of a file
            raise EngineFailed("Another program holds the processor's counter of instructions. Count again without it.")
        return int(struct.unpack("=Q", read)[0])

    def close(self) -> None:
        """Give it back."""
        os.close(self._place)


@contextmanager
def counting(kind: int = HARDWARE, config: int = INSTRUCTIONS) -> Iterator[Counter]:
    """A counter that is given back."""
    counter = Counter(kind, config)
    try:
        yield counter
    finally:
        counter.close()


def why_not() -> str | None:
    """None where instructions are counted; else why they are not, without a full stop. Found out by counting some."""
    try:
        with counting() as counter:
            counter.start()
            sum(range(1000))
            counted = counter.stop()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return "the kernel does not let this user count (sysctl kernel.perf_event_paranoid=2 allows it)"
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
            return "this processor or virtual machine has no hardware counter of instructions"
        return f"the kernel gives no counter ({error.strerror})"
    except EngineFailed:
        return "another program holds the hardware counter"
    return None if counted > 1000 else "the hardware counter stands still, as in some virtual machines"
