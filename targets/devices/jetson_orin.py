"""Jetson AGX Orin: 64 GB and 32 GB; the Orin that is meant where only Orin is said."""

from targets.fits import board
from targets.gpu_profile import Gpu, gpu_variant
from targets.profile import Fact, PowerMode, Profile
from targets.tensorrt_target import (
    CAPABILITIES,
    JETPACK_5_0_2,
    JETPACK_7_2_2,
    ORIN_SOFTWARE,
    tensorrt_target,
)

SHEET = "NVIDIA, Jetson AGX Orin Series data sheet DS-10662"
MODES = "NVIDIA, nvpmodel_*.conf of module p3701-0000, in LineageOS/android_device_nvidia_concord"
MODES_32GB = "NVIDIA, nvpmodel_*.conf of module p3701-0004, in LineageOS/android_device_nvidia_concord"

TARGET = tensorrt_target(
    "jetson-orin",
    summary="Jetson AGX Orin, 64 and 32 GB",
    fits=board("AGX Orin"),
    profile=Profile(
        processor=Fact("Ampere GPU, compute capability 8.7; 12 Cortex-A78AE (32 GB: 8)", CAPABILITIES),
        variants=(
            gpu_variant(
                "Jetson AGX Orin 64GB",
                Gpu(16, 1300, 2048, 128, SHEET),
                memory_gb=64, memory_source=SHEET, bandwidth_gb_s=204.8,
                power_modes=(
                    PowerMode("MAXN", MODES, "all at their greatest"),
                    PowerMode("15W", MODES, "4 cores at 1114 MHz, GPU 408 MHz, memory 2133 MHz, 3 pairs of 8"),
                    PowerMode("30W", MODES, "8 cores at 1728 MHz, GPU 612 MHz, 4 pairs of multiprocessors of 8", True),
                    PowerMode("50W", MODES, "12 cores at 1498 MHz, GPU 816 MHz, all 8 pairs"),
                ),
            ),
            gpu_variant(
                "Jetson AGX Orin 32GB",
                Gpu(14, 930, 2048, 128, SHEET),
                memory_gb=32, memory_source=SHEET, bandwidth_gb_s=204.8,
                power_modes=(
                    PowerMode("MAXN", MODES_32GB, "all at their greatest, 7 pairs of multiprocessors"),
                    PowerMode("15W", MODES_32GB),
                    PowerMode("30W", MODES_32GB, preset=True),
                    PowerMode("40W", MODES_32GB, "8 cores at 1498 MHz, GPU 816 MHz, all 7 pairs"),
                ),
            ),
        ),
        software=(JETPACK_5_0_2, *ORIN_SOFTWARE, JETPACK_7_2_2),
        remarks=(
            Fact(
                "2 deep learning accelerators, left out of the peaks; nothing is built for them",
                "NVIDIA, DLA FAQ, Deep-Learning-Accelerator-SW",
            ),
        ),
    ),
)  # fmt: skip
