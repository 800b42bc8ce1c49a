"""NVIDIA L4."""

from targets.fits import nvidia_gpu
from targets.gpu_profile import Gpu, gpu_variant
from targets.profile import Fact, Profile
from targets.tensorrt_target import CAPABILITIES, SERVER_SOFTWARE, tensorrt_target

SOURCE = "fpsbench.com, L4: 7424 cores, 2040 MHz (second-hand)"

TARGET = tensorrt_target(
    "nvidia-l4",
    summary="NVIDIA L4",
    fits=nvidia_gpu("L4"),
    profile=Profile(
        processor=Fact("Ada GPU, compute capability 8.9", CAPABILITIES),
        variants=(
            gpu_variant(
                "NVIDIA L4", Gpu(58, 2040, 1024, 128, SOURCE), memory_gb=24, memory_source=SOURCE, bandwidth_gb_s=300
            ),
        ),
        software=SERVER_SOFTWARE,
        remarks=(
            Fact("72 W", "fpsbench.com (second-hand)"),
            Fact(
                "others write 60 multiprocessors, which the whole chip has; 58 give NVIDIA's 485 TOPS with sparsity",
                "store.sourcecode.com (second-hand)",
            ),
        ),
    ),
)
