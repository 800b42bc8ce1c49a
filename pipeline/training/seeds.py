"""Random numbers that depend on the seed and on the place they are used, on nothing else.

Every epoch and every step has a seed of its own, so a run that is stopped and continued draws the same numbers as one
that was not, and no stage disturbs the random state of its caller.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_for(*place: int | str) -> int:
    """A 63-bit seed for a place such as `(run seed, "distill", epoch 3)`."""
    text = "/".join(str(part) for part in place)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def random_state_kept(seed: int) -> Iterator[None]:
    """Seed torch inside the block; the caller's random state is put back after it."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
