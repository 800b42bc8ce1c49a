"""NVIDIA H200."""

from targets.fits import nvidia_gpu
from targets.profile import Fact, Figure, Profile, Variant
from targets.tensorrt_target import CAPABILITIES, SERVER_SOFTWARE, tensorrt_target

TABLE = "huggingface.co/datasets/devidasmishra/ai-inference-hardware-economics-2026 (second-hand)"
SYSTEM = "MLPerf inference v4.1, NVIDIA's system description H200-SXM-141GBx8_TRT_MaxQ"

TARGET = tensorrt_target(
    "nvidia-h200",
    summary="NVIDIA H200",
    fits=nvidia_gpu("H200"),
    profile=Profile(
        processor=Fact("Hopper GPU, compute capability 9.0", CAPABILITIES),
        variants=(
            Variant(
                "NVIDIA H200 SXM",
                fp16=Figure(989, "TFLOPS", TABLE),
                memory=Figure(141, "GB", SYSTEM),
                bandwidth=Figure(4800, "GB/s", TABLE),
            ),
        ),
        software=SERVER_SOFTWARE,
        remarks=(Fact("700 W", SYSTEM),),
    ),
)
