"""NVIDIA A10."""

from targets.fits import nvidia_gpu
from targets.gpu_profile import Gpu, gpu_variant
from targets.profile import Fact, Profile
from targets.tensorrt_target import CAPABILITIES, SERVER_SOFTWARE, tensorrt_target

SOURCE = "sysrqmts.com, A10 PCIe (second-hand)"

TARGET = tensorrt_target(
    "nvidia-a10",
    summary="NVIDIA A10",
    fits=nvidia_gpu("A10"),
    profile=Profile(
        processor=Fact("Ampere GPU, compute capability 8.6", CAPABILITIES),
        variants=(
            gpu_variant(
                "NVIDIA A10", Gpu(72, 1695, 1024, 128, SOURCE), memory_gb=24, memory_source=SOURCE, bandwidth_gb_s=600
            ),
        ),
        software=SERVER_SOFTWARE,
        remarks=(Fact("150 W", "sysrqmts.com, A10 PCIe (second-hand)"),),
    ),
)
