"""GeForce RTX 4060."""

from targets.fits import nvidia_gpu
from targets.gpu_profile import Gpu, gpu_variant
from targets.profile import Fact, Profile
from targets.tensorrt_target import CAPABILITIES, SERVER_SOFTWARE, tensorrt_target

SOURCE = "fpsbench.com, RTX 4060 (second-hand)"

TARGET = tensorrt_target(
    "rtx-4060",
    summary="GeForce RTX 4060",
    fits=nvidia_gpu("RTX 4060"),
    profile=Profile(
        processor=Fact("Ada GPU, compute capability 8.9", CAPABILITIES),
        variants=(
            gpu_variant(
                "GeForce RTX 4060",
                Gpu(24, 2460, 1024, 128, SOURCE),
                memory_gb=8,
                memory_source=SOURCE,
                bandwidth_gb_s=272,
            ),
        ),
        software=SERVER_SOFTWARE,
        remarks=(Fact("115 W", "fpsbench.com, RTX 4060 (second-hand)"),),
    ),
)
