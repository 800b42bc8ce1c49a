"""Raspberry Pi 5, on its processor, through ONNX Runtime."""

from targets.engines.ort import OnnxRuntime
from targets.fits import board
from targets.one_frame import SOURCE, one_frame_budget
from targets.profile import Fact, Figure, Profile, Variant
from targets.reach.local import board_name
from targets.schemes import ARM64
from targets.target import Scheme, Target

CHIP = "circuitdigest.com, Raspberry Pi 5: BCM2712, 4 Cortex-A76 at 2.4 GHz, 32 bits of LPDDR4X-4267 (second-hand)"
MODELS = "education.raspberrypiaustralia.online, Raspberry Pi 5 (second-hand)"


def scheme() -> Scheme:
    """Signed activations, full 8-bit weights: the Cortex-A76 has the integer dot product."""
    return ARM64


def is_here() -> bool:
    """Whether this machine calls itself one."""
    return board_name().startswith("Raspberry Pi 5")


def peak(products: int, unit: str) -> Figure:
    """Four cores, two vector units each; a multiply-add counts as two operations."""
    how = f"computed: 4 cores × 2.4 GHz × 2 vector units × {products} products × 2"
    return Figure(
        4 * 2.4 * 2 * products * 2 / 1000, unit, f"{how}; Arm, Cortex-A76 Software Optimization Guide; {CHIP}"
    )


TARGET = Target(
    name="raspberry-pi-5",
    summary="Raspberry Pi 5, processor only, ONNX Runtime",
    engine=OnnxRuntime(),
    scheme=scheme,
    budget=one_frame_budget("raspberry-pi-5"),
    is_here=is_here,
    fits=board("Raspberry Pi 5"),
    sources=(CHIP, SOURCE),
    profile=Profile(
        processor=Fact("4 Cortex-A76, Armv8.2 with the integer dot product; no i8mm, no SVE", CHIP),
        variants=tuple(
            Variant(
                f"Raspberry Pi 5 {memory_gb}GB",
                int8=peak(16, "TOPS"),
                fp16=peak(8, "TFLOPS"),
                fp32=peak(4, "TFLOPS"),
                memory=Figure(memory_gb, "GB", MODELS),
                bandwidth=Figure(17.1, "GB/s", f"computed: 4267 MT/s × 32 bits; {CHIP}"),
            )
            for memory_gb in (8, 4)
        ),
        remarks=(
            Fact("no accelerator for networks", CHIP),
            Fact("ONNX Runtime 1.31 has wheels for aarch64 from Python 3.11 on", "PyPI, onnxruntime 1.31.1"),
        ),
    ),
)
