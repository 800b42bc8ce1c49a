"""What a program says to callgrind while it runs under it: count from here, stop here, write down what was counted.

Valgrind documents this way in (`valgrind.h`, `callgrind.h`): four rotations that together change nothing, and an
exchange of a register with itself. A processor does nothing at that place; valgrind's emulated one reads the request
there. Python has no such instructions, so they are laid into a page of memory and called.

A request is six numbers of 64 bits, the first its code; the answer is the second argument where nobody listens.
"""

import ctypes
import mmap
import platform
from collections.abc import Callable
from enum import Enum

TOOL = (ord("C") << 24) | (ord("T") << 16)  # callgrind's own requests


class Request(Enum):
    """The codes."""

    WRITE_DOWN = TOOL  # and begin again from nought
    FORGET = TOOL + 1
    START = TOOL + 4
    STOP = TOOL + 5
    ANYBODY = 0x1001  # RUNNING_ON_VALGRIND: answers how many valgrinds stand around the program; changes nothing


X86_64 = (
    "4889f8"  # mov rax, rdi: where the request is
    "4889f2"  # mov rdx, rsi: the answer if nobody listens
    "48c1c703" "48c1c70d" "48c1c73d" "48c1c733"  # rol rdi, 3 + 13 + 61 + 51 = 128
    "4887db"  # xchg rbx, rbx: rdx = request(rax)
    "4889d0"  # mov rax, rdx
    "c3"  # ret
)  # fmt: skip
ARM64 = (  # each instruction as the number that ARM's manual gives it
    0xAA0103E3,  # mov x3, x1
    0xAA0003E4,  # mov x4, x0
    0x93CC0D8C, 0x93CC358C, 0x93CCCD8C, 0x93CCF58C,  # ror x12, x12, 3 + 13 + 51 + 61
    0xAA0A014A,  # orr x10, x10, x10: x3 = request(x4)
    0xAA0303E0,  # mov x0, x3
    0xD65F03C0,  # ret
)  # fmt: skip


def code_for(architecture: str) -> bytes | None:
    """The function answer(request, default) in this processor's own numbers; None where we have none."""
    if architecture.lower() in ("x86_64", "amd64"):
        return bytes.fromhex(X86_64)
    if architecture.lower() in ("aarch64", "arm64"):
        return b"".join(each.to_bytes(4, "little") for each in ARM64)
    return None


def asking() -> Callable[[Request], int]:
    """A function that makes requests, for as long as it is kept; 0 is the answer where nobody listens.

    Raises:
        OSError: no code for this processor, or memory that holds code is not given.
    """
    code = code_for(platform.machine())
    if code is None:
        raise OSError(f"no request to valgrind is known for a {platform.machine()} processor")
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)(start)
    # Made once: what is made between two counts would be counted.
    requests = {each: (ctypes.c_uint64 * 6)(each.value) for each in Request}
    places = {each: ctypes.addressof(request) for each, request in requests.items()}

    def ask(request: Request, *, _kept: object = (page, requests)) -> int:
        return int(call(places[request], 0))

    return ask
