"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from pipeline.kept_memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit("another C library")
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**23)  # 64 MiB, given back at once
before = faults()
for _ in range(4):
    np.ones(2**23)
print(faults() - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=False)
    if "another C library" in done.stderr:
        pytest.skip("this C library is not glibc")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_block_of_64_mib_that_is_given_back_is_not_mapped_again() -> None:
    # 16 384 pages of 4 KiB each time, or 32 of 2 MiB where the system hands out large ones
    assert faults("kept") * 10 < faults("given back")
