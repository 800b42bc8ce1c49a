"""Jetson Thor: T5000 (the AGX Thor developer kit) and T4000."""

from targets.fits import board
from targets.gpu_profile import Gpu, gpu_variant
from targets.profile import Fact, PowerMode, Profile
from targets.schemes import TENSORRT_FLOAT16
from targets.tensorrt_target import CAPABILITIES, JETPACK_7_0, JETPACK_7_2, JETPACK_7_2_2, tensorrt_target

SHEET = "NVIDIA, Jetson Thor data sheet (second-hand)"
SEEN = "NVIDIA developer forum 356355: 20 multiprocessors and 2560 cores read on the device; clock second-hand"

TARGET = tensorrt_target(
    "jetson-thor",
    summary="Jetson Thor, T5000 and T4000",
    fits=board("Thor"),
    scheme=TENSORRT_FLOAT16,
    profile=Profile(
        processor=Fact("Blackwell GPU, compute capability 11.0; 14 Neoverse-V3AE (T4000: 12)", CAPABILITIES),
        variants=(
            gpu_variant(
                "Jetson T5000",
                Gpu(20, 1575, None, 128, SEEN),
                memory_gb=128, memory_source=SHEET, bandwidth_gb_s=273,
                power_modes=(
                    PowerMode("120W", SHEET),
                    PowerMode("MAXN", SHEET, "all at their greatest"),
                ),
            ),
            gpu_variant("Jetson T4000", None, memory_gb=64, memory_source=SHEET, bandwidth_gb_s=273),
        ),
        software=(JETPACK_7_0, JETPACK_7_2, JETPACK_7_2_2),
        remarks=(
            Fact(
                "what NVIDIA states is 2070 (T4000: 1200) TFLOPS of FP4 with 2:4 sparsity; no peak in INT8 or FP16",
                SHEET,
            ),
            Fact("no deep learning accelerator (DLA)", "NVIDIA, Jetson Thor pages"),
            Fact(
                "float16 around the integers: TensorRT 10.12 and later advise strong types, 11 has no others",
                "NVIDIA, TensorRT 11.4 migration guide",
            ),
        ),
    ),
)  # fmt: skip
