"""The peaks of a GPU, computed from what it is made of.

    INT8  = multiprocessors · clock · 2 · k      k multiply-adds of one multiprocessor's matrix units per clock
    FP16  = INT8 / 2
    FP32  = multiprocessors · clock · 2 · c      c ordinary cores of one multiprocessor

k is 1024 for compute capability 7.2, 7.5, 8.6 and 8.9, and 2048 for 8.7. It gives every INT8 peak that NVIDIA states of
these devices (T4 130, AGX Orin 85 and 54, Orin Nano 20, RTX 4060 121 TOPS), and tests hold it against them.
"""

from dataclasses import dataclass

from targets.profile import Figure, PowerMode, Variant

TERA_PER_MEGA = 1e-6


@dataclass(frozen=True)
class Gpu:
    """What the peaks are computed from.

    int8_per_clock: multiply-adds of one multiprocessor; None where none is known
    source: of the number of multiprocessors and of the greatest clock
    """

    multiprocessors: int
    clock_mhz: float
    int8_per_clock: int | None
    cores: int
    source: str

    def peak(self, per_clock: float, unit: str) -> Figure:
        """Multiply-adds count as two operations."""
        value = self.multiprocessors * self.clock_mhz * 2 * per_clock * TERA_PER_MEGA
        how = f"{self.multiprocessors} multiprocessors × {self.clock_mhz:g} MHz × 2 × {per_clock:g}"
        return Figure(value, unit, f"computed: {how}; {self.source}")


def gpu_variant(
    name: str,
    gpu: Gpu | None,
    *,
    memory_gb: float,
    memory_source: str,
    bandwidth_gb_s: float | None = None,
    bandwidth_source: str = "",
    power_modes: tuple[PowerMode, ...] = (),
) -> Variant:
    """A board with this GPU and this memory; bandwidth_source: where it is not that of the memory."""
    bandwidth = None
    if bandwidth_gb_s is not None:
        bandwidth = Figure(bandwidth_gb_s, "GB/s", bandwidth_source or memory_source)
    rate = None if gpu is None else gpu.int8_per_clock
    return Variant(
        name=name,
        int8=None if gpu is None or rate is None else gpu.peak(rate, "TOPS"),
        fp16=None if gpu is None or rate is None else gpu.peak(rate / 2, "TFLOPS"),
        fp32=None if gpu is None else gpu.peak(gpu.cores, "TFLOPS"),
        memory=Figure(memory_gb, "GB", memory_source),
        bandwidth=bandwidth,
        power_modes=power_modes,
    )
