"""No device at all: it answers zeros, instantly. For testing what stands above the targets."""

from targets.budget import Budget, Limit
from targets.engines.nothing import Nothing
from targets.target import Scheme, Target


def full_eight_bits() -> Scheme:
    """What the most capable device would say."""
    return Scheme(
        weight_bits=8, unsigned_activations=True, signed_zero_point=128, why="nothing is multiplied, nothing saturates"
    )


def always_here() -> bool:
    """It is wherever we are."""
    return True


TARGET = Target(
    name="null",
    summary="answers zeros instantly; for tests",
    engine=Nothing(),
    scheme=full_eight_bits,
    budget=Budget((Limit("max_latency_ms", 33.3, "target null"),)),  # the same frame as on x86-cpu
    is_here=always_here,
    sources=("33.3 ms: 1000 / 30, one frame of a camera at 30 per second",),
    answers=False,
)
