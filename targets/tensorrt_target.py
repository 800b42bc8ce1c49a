"""A target whose engines TensorRT builds: on that device, from the ONNX file of a bundle.

Such a target is never here: TensorRT's engines are built and asked by jobs on the device (targets/on_device/), also
where that is this very machine, which is then given as a device. The integer form is the one that every version takes:
explicit quantizers, int8 around 0, operator set 17. From TensorRT 11 on what is not integer is written in float16, for
a builder that chooses no types by itself.
"""

from collections.abc import Mapping
from typing import Any

from targets.engines.absent import Absent
from targets.fits import Fits
from targets.one_frame import SOURCE, one_frame_budget
from targets.profile import Profile, Software
from targets.reach.reached import version_in
from targets.schemes import TENSORRT, TENSORRT_FLOAT16
from targets.target import Scheme, Target

STRONGLY_TYPED_ALONE = 11  # the first version without weak typing
CAPABILITIES = "NVIDIA, CUDA GPU Compute Capability, developer.nvidia.com/cuda-gpus"
OLD_CAPABILITIES = "NVIDIA, Legacy CUDA GPU Compute Capability, developer.nvidia.com/cuda-legacy-gpus"
OPERATORS = "onnx-tensorrt, docs/operators.md of that release"
QUANTIZED = "NVIDIA, TensorRT documentation, 'Working with quantized types': int8 is symmetric, zero point 0"

JETPACK_5_0_2 = Software(
    "JetPack 5.0.2", "TensorRT 8.4.1", 17, f"NVIDIA, JetPack 5.0.2 page; operator set: {OPERATORS}"
)
JETPACK_5_1 = Software(
    "JetPack 5.1 to 5.1.6", "TensorRT 8.5.2", 17,
    f"MLPerf inference v3.1, NVIDIA's system descriptions for JetPack 5.1.1; operator set: {OPERATORS}",
)  # fmt: skip
JETPACK_6_0 = Software("JetPack 6.0", "TensorRT 8.6", 17, f"jetson-containers (second-hand); operator set: {OPERATORS}")
JETPACK_6_1 = Software(
    "JetPack 6.1 to 6.2.2", "TensorRT 10.3.0", 20,
    "PyTorch's pages for Jetson; operator set: NVIDIA's documentation of TensorRT 10.0 and 10.1, 9 to 20; none found "
    "for 10.3",
)  # fmt: skip
JETPACK_7_0 = Software("JetPack 7.0 to 7.1", "TensorRT 10.13", None, "NVIDIA, JetPack 7.0 and 7.1 archive pages")
JETPACK_7_2 = Software(
    "JetPack 7.2 to 7.2.1", "TensorRT 10.16.2", 24,
    f"three audits of devices (second-hand); operator set: {OPERATORS}, of 10.15",
)  # fmt: skip
JETPACK_7_2_2 = Software(
    "JetPack 7.2.2 or later", "TensorRT 11.4.1, installed by hand", 25,
    "NVIDIA, TensorRT 11.4.1 migration page; operator set: TensorRT 11 operator guide",
)  # fmt: skip
ORIN_SOFTWARE = (JETPACK_5_1, JETPACK_6_0, JETPACK_6_1, JETPACK_7_2)

SERVER_SOFTWARE = (
    Software(
        "NVIDIA's packages", "TensorRT 10.0 to 10.1", 20,
        "NVIDIA, TensorRT 10.1 documentation: operator sets 9 to 20, compute capability 7.0 or higher",
    ),
    Software("NVIDIA's packages", "TensorRT 10.15", 24, f"{OPERATORS}, of 10.15"),
    Software("NVIDIA's packages", "TensorRT 11.2", 24, f"{OPERATORS}, of 11.2"),
)  # fmt: skip


def tensorrt_target(
    name: str,
    *,
    summary: str,
    profile: Profile,
    fits: Fits,
    scheme: Scheme = TENSORRT,
    sources: tuple[str, ...] = (),
) -> Target:
    """A device that builds with TensorRT."""
    return Target(
        name=name,
        summary=f"{summary}, TensorRT",
        engine=Absent("TensorRT", name),
        scheme=lambda: scheme,
        scheme_of=lambda facts: TENSORRT_FLOAT16 if wants_float16(facts) else scheme,
        fits=fits,
        budget=one_frame_budget(name),
        is_here=never_here,
        sources=(*sources, QUANTIZED, SOURCE),
        profile=profile,
    )


def wants_float16(facts: Mapping[str, Any]) -> bool:
    """Whether the device's TensorRT takes the types of the file and no others."""
    major = (version_in(facts, "tensorrt") or "").split(".")[0]
    return major.isdigit() and int(major) >= STRONGLY_TYPED_ALONE


def never_here() -> bool:
    """No: it is reached as a device."""
    return False
