"""A 64-bit ARM processor with the integer dot product, through ONNX Runtime."""

from targets.engines.ort import OnnxRuntime
from targets.fits import arm64_with_dot_product
from targets.one_frame import SOURCE, one_frame_budget
from targets.profile import Fact, Profile
from targets.reach.local import cpu_features, is_arm64
from targets.schemes import ARM64
from targets.target import Scheme, Target

MANUAL = "Arm Architecture Reference Manual: SDOT adds four products of int8 in 32 bits; Linux calls it asimddp"


def scheme() -> Scheme:
    """Signed activations, full 8-bit weights."""
    return ARM64


def is_here() -> bool:
    """Whether this machine is a 64-bit ARM with the dot product."""
    return is_arm64() and "asimddp" in cpu_features()


TARGET = Target(
    name="arm64-cpu",
    summary="64-bit ARM with the integer dot product, ONNX Runtime",
    engine=OnnxRuntime(),
    scheme=scheme,
    budget=one_frame_budget("arm64-cpu"),
    is_here=is_here,
    fits=arm64_with_dot_product,
    sources=(MANUAL, SOURCE),
    profile=Profile(
        processor=Fact("asimddp", MANUAL),
        remarks=(
            Fact(
                "a network of int8 gives the same bytes as exact kernels on x86 do",
                "measured with ONNX Runtime 1.31 on an emulated Cortex-A76, 8 inputs; times of an emulator say nothing",
            ),
        ),
    ),
)
