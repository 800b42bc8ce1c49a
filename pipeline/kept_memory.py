"""Have the C library keep the memory that tensors give back, instead of returning it to the system each time.

glibc maps every block beyond 32 MiB anew, and the system clears it page by page when it is first touched. A quantized
MobileNetV2 that answered 16 photographs at once spent more than half of its processor time there: 1.48 s for two such
batches with the memory kept, 3.56 s without, at 650 and 615 MB.

Source: mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
"""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # their numbers in malloc.h
KEPT_BYTES = 2**30  # blocks up to this size come from the heap, and this much of its end stays when it is free


def keep_freed_memory() -> bool:
    """Whether it could be arranged: other C libraries go on as they do."""
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(MMAP_THRESHOLD, KEPT_BYTES)) and bool(library.mallopt(TRIM_THRESHOLD, KEPT_BYTES))
