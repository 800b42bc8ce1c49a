"""The budget of a device that its user has set none for: one frame of a camera, no slower, no worse by a point."""

from targets.budget import Budget, Limit

FRAME_MS = 33.3  # 1000 / 30
SOURCE = "33.3 ms: 1000 / 30, one frame of a camera at 30 per second"


def one_frame_budget(target: str) -> Budget:
    """The default budget of a target."""
    origin = f"target {target}"
    return Budget(
        (
            Limit("max_latency_ms", FRAME_MS, origin),
            Limit("min_speedup", 1.0, origin),  # never hand over an engine slower than what it replaces
            Limit("max_accuracy_drop_points", 1.0, origin),
        )
    )
