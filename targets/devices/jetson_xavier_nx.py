"""Jetson Xavier NX."""

from targets.fits import board
from targets.gpu_profile import Gpu, gpu_variant
from targets.profile import Fact, PowerMode, Profile
from targets.tensorrt_target import JETPACK_5_0_2, JETPACK_5_1, OLD_CAPABILITIES, tensorrt_target

SHEET = "NVIDIA, Jetson Xavier NX data sheet DA-09366-001: 384 cores, 48 matrix units, 1100 MHz"
MODES = "NVIDIA, Jetson Xavier NX data sheet DA-09366-001, supported power modes"

TARGET = tensorrt_target(
    "jetson-xavier-nx",
    summary="Jetson Xavier NX, 8 and 16 GB",
    fits=board("Xavier NX"),
    profile=Profile(
        processor=Fact("Volta GPU, compute capability 7.2; 6 Carmel", OLD_CAPABILITIES),
        variants=(
            gpu_variant(
                "Jetson Xavier NX 8GB",
                Gpu(6, 1100, 1024, 64, SHEET),
                memory_gb=8, memory_source=SHEET, bandwidth_gb_s=59.7,
                bandwidth_source="Ultralytics, NVIDIA Jetson guide, table of the series (second-hand)",
                power_modes=(
                    PowerMode("10W", MODES),
                    PowerMode("15W", MODES),
                ),
            ),
            gpu_variant(
                "Jetson Xavier NX 16GB",
                None, memory_gb=16, memory_source="huggingface.co/hardware/jetson-xavier-nx (second-hand)",
            ),
        ),
        software=(JETPACK_5_0_2, JETPACK_5_1),
        remarks=(
            Fact("no 2:4 sparsity", "NVIDIA, TensorRT documentation: from compute capability 8.0 on"),
            Fact(
                "21 TOPS of INT8 with both deep learning accelerators, for which nothing is built",
                "NVIDIA, Jetson Xavier NX data sheet DA-09366-001",
            ),
            Fact("JetPack 5 is its last", "Ultralytics, NVIDIA Jetson guide, support by device (second-hand)"),
        ),
    ),
)  # fmt: skip
