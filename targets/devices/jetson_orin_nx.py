"""Jetson Orin NX: 16 GB and 8 GB."""

from targets.fits import board
from targets.gpu_profile import Gpu, gpu_variant
from targets.profile import Fact, PowerMode, Profile
from targets.tensorrt_target import CAPABILITIES, ORIN_SOFTWARE, tensorrt_target

GUIDE = "Ultralytics, NVIDIA Jetson guide, table of the series (second-hand)"
SHEET = "NVIDIA, Jetson Orin NX Series data sheet (second-hand)"
MODES = "NVIDIA, nvpmodel_*.conf of module p3767-0000, in LineageOS/android_device_nvidia_concord"

TARGET = tensorrt_target(
    "jetson-orin-nx",
    summary="Jetson Orin NX, 16 and 8 GB",
    fits=board("Orin NX"),
    profile=Profile(
        processor=Fact("Ampere GPU, compute capability 8.7; 8 Cortex-A78AE (8 GB: 6)", CAPABILITIES),
        variants=(
            gpu_variant(
                "Jetson Orin NX 16GB",
                Gpu(8, 918, 2048, 128, GUIDE),
                memory_gb=16, memory_source=GUIDE, bandwidth_gb_s=102.4,
                power_modes=(
                    PowerMode("MAXN", MODES, "all at their greatest"),
                    PowerMode("10W", MODES, "4 cores at 1190 MHz, GPU 612 MHz, memory 2133 MHz, 2 pairs of 4"),
                    PowerMode("15W", MODES, "4 cores at 1651 MHz, GPU 612 MHz, 2 pairs of multiprocessors of 4", True),
                    PowerMode("25W", MODES, "8 cores at 1498 MHz, GPU 408 MHz, all 4 pairs"),
                ),
            ),
            gpu_variant(
                "Jetson Orin NX 16GB Super",
                Gpu(8, 1173, 2048, 128, MODES),
                memory_gb=16, memory_source=GUIDE, bandwidth_gb_s=102.4,
                power_modes=(
                    PowerMode("MAXN_SUPER", MODES, "all at their greatest"),
                    PowerMode("10W", MODES, "as without Super"),
                    PowerMode("15W", MODES, "4 cores at 1421 MHz; half of the multiprocessors"),
                    PowerMode("25W", MODES, "as without Super"),
                    PowerMode("40W", MODES, "8 cores at 1498 MHz, GPU 1173 MHz, all 4 pairs", True),
                ),
            ),
            gpu_variant(
                "Jetson Orin NX 8GB",
                Gpu(8, 765, 2048, 128, SHEET),
                memory_gb=8, memory_source=SHEET, bandwidth_gb_s=102.4,
            ),
        ),
        software=ORIN_SOFTWARE,
        remarks=(
            Fact(
                "2 deep learning accelerators at 614 MHz (8 GB: 1), left out of the peaks; nothing is built for them",
                "Ultralytics, NVIDIA Jetson guide (second-hand)",
            ),
            Fact("in mode 15W half of the GPU is switched off", MODES),
        ),
    ),
)  # fmt: skip
