"""Jetson Orin Nano: 4 GB and 8 GB, each also with the clocks that JetPack 6.2 calls Super."""

from targets.fits import board
from targets.gpu_profile import Gpu, gpu_variant
from targets.profile import Fact, PowerMode, Profile
from targets.tensorrt_target import CAPABILITIES, ORIN_SOFTWARE, tensorrt_target

GUIDE = "Ultralytics, NVIDIA Jetson guide, table of the series (second-hand)"
SHEET = "NVIDIA, Jetson Orin Nano Series data sheet (second-hand)"
MODES = "NVIDIA, nvpmodel_*.conf of module p3767-0003, in LineageOS/android_device_nvidia_concord"
MODES_4GB = "NVIDIA, nvpmodel_*.conf of module p3767-0004, Super, in LineageOS/android_device_nvidia_concord"

TARGET = tensorrt_target(
    "jetson-orin-nano",
    summary="Jetson Orin Nano, 8 and 4 GB, Super clocks or not",
    fits=board("Orin Nano"),
    profile=Profile(
        processor=Fact("Ampere GPU, compute capability 8.7; 6 Cortex-A78AE", CAPABILITIES),
        variants=(
            gpu_variant(
                "Jetson Orin Nano 8GB",
                Gpu(8, 625, 2048, 128, SHEET),
                memory_gb=8, memory_source=SHEET, bandwidth_gb_s=68,
                power_modes=(
                    PowerMode("15W", MODES, "6 cores; all clocks at their greatest; 4 pairs of multiprocessors", True),
                    PowerMode("7W", MODES, "4 cores at 960 MHz, GPU 408 MHz, memory 2133 MHz, 2 pairs"),
                ),
            ),
            gpu_variant(
                "Jetson Orin Nano 8GB Super",
                Gpu(8, 1020, 2048, 128, GUIDE),
                memory_gb=8, memory_source=GUIDE, bandwidth_gb_s=102,
                power_modes=(
                    PowerMode("15W", MODES, "6 cores at 1498 MHz, GPU 612 MHz, memory 2133 MHz, 4 pairs"),
                    PowerMode("25W", MODES, "6 cores at 1344 MHz, GPU 918 MHz, memory 3199 MHz, 4 pairs", True),
                    PowerMode("MAXN_SUPER", MODES, "all at their greatest"),
                ),
            ),
            gpu_variant(
                "Jetson Orin Nano 4GB",
                Gpu(4, 625, 2048, 128, SHEET),
                memory_gb=4, memory_source=SHEET,
                bandwidth_gb_s=34, bandwidth_source=f"computed: 64 bits where the 8 GB board has 128; {SHEET}",
            ),
            gpu_variant(
                "Jetson Orin Nano 4GB Super",
                Gpu(4, 1020, 2048, 128, MODES_4GB),
                memory_gb=4, memory_source=SHEET,
                bandwidth_gb_s=51, bandwidth_source=f"computed: 64 bits where the 8 GB board has 128; {GUIDE}",
                power_modes=(
                    PowerMode("10W", MODES_4GB, "6 cores at 1498 MHz, GPU 612 MHz, memory 2133 MHz, 2 pairs"),
                    PowerMode("25W", MODES_4GB, "6 cores at 1728 MHz, GPU 1020 MHz, memory 3199 MHz, 2 pairs", True),
                    PowerMode("MAXN_SUPER", MODES_4GB, "all at their greatest"),
                ),
            ),
        ),
        software=ORIN_SOFTWARE,
        remarks=(
            Fact("no deep learning accelerator (DLA)", "NVIDIA, DLA FAQ, Deep-Learning-Accelerator-SW"),
            Fact(
                "flashed from the image of JetPack 7.2 it has no Super modes, and its GPU stays at 624 MHz; 7.2.1 "
                "repairs that",
                "NVIDIA developer forum 377003 (second-hand)",
            ),
        ),
    ),
)  # fmt: skip
