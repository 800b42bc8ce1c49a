"""NVIDIA T4."""

from targets.fits import nvidia_gpu
from targets.gpu_profile import Gpu, gpu_variant
from targets.profile import Fact, Profile
from targets.tensorrt_target import CAPABILITIES, SERVER_SOFTWARE, tensorrt_target

SOURCE = "sysrqmts.com, comparison with the A100 (second-hand)"

TARGET = tensorrt_target(
    "nvidia-t4",
    summary="NVIDIA T4",
    fits=nvidia_gpu("T4"),
    profile=Profile(
        processor=Fact("Turing GPU, compute capability 7.5", CAPABILITIES),
        variants=(
            gpu_variant(
                "NVIDIA T4", Gpu(40, 1590, 1024, 64, SOURCE), memory_gb=16, memory_source=SOURCE, bandwidth_gb_s=320
            ),
        ),
        software=SERVER_SOFTWARE,
        remarks=(Fact("no 2:4 sparsity; 70 W", "NVIDIA, TensorRT documentation; server-parts.eu (second-hand)"),),
    ),
)
