"""NVIDIA A2."""

from targets.fits import nvidia_gpu
from targets.gpu_profile import Gpu, gpu_variant
from targets.profile import Fact, Profile
from targets.tensorrt_target import CAPABILITIES, SERVER_SOFTWARE, tensorrt_target

SOURCE = "siliconcat.net and cputronic.com, A2 (second-hand)"

TARGET = tensorrt_target(
    "nvidia-a2",
    summary="NVIDIA A2",
    fits=nvidia_gpu("A2"),
    profile=Profile(
        processor=Fact("Ampere GPU, compute capability 8.6", CAPABILITIES),
        variants=(gpu_variant("NVIDIA A2", Gpu(10, 1770, 1024, 128, SOURCE), memory_gb=16, memory_source=SOURCE),),
        software=SERVER_SOFTWARE,
        remarks=(Fact("60 W", "cputronic.com (second-hand)"),),
    ),
)
