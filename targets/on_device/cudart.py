"""CUDA's runtime library through ctypes: memory, copies, a stream, the time of events, a recorded graph.

Needs libcudart of CUDA 11.4 or later, nothing else. Handles and addresses are plain integers. Every call that CUDA
answers with an error raises, with CUDA's own words for it.

Source: CUDA Runtime API, sections Memory, Stream, Event and Graph Management.
"""

from __future__ import annotations

import ctypes
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from targets.on_device.failures import OnDeviceFailure

NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
FOLDERS = (
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/aarch64-linux/lib",
    "/usr/local/cuda/targets/x86_64-linux/lib",
)
TO_GPU, FROM_GPU = 1, 2  # cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost
THREAD_ALONE = 1  # cudaStreamCaptureModeThreadLocal
MAJOR, MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, …Minor
PROPERTY_BYTES = 16384  # cudaDeviceProp has about 1 kB, and grows; it begins with the name
NAME_BYTES = 256

_ADDRESS, _OUT = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudaMalloc": (_OUT, ctypes.c_size_t),
    "cudaFree": (_ADDRESS,),
    "cudaMallocHost": (_OUT, ctypes.c_size_t),
    "cudaFreeHost": (_ADDRESS,),
    "cudaMemcpyAsync": (_ADDRESS, _ADDRESS, ctypes.c_size_t, ctypes.c_int, _ADDRESS),
    "cudaMemGetInfo": (ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)),
    "cudaStreamCreate": (_OUT,),
    "cudaStreamSynchronize": (_ADDRESS,),
    "cudaStreamBeginCapture": (_ADDRESS, ctypes.c_int),
    "cudaStreamEndCapture": (_ADDRESS, _OUT),
    "cudaGraphInstantiateWithFlags": (_OUT, _ADDRESS, ctypes.c_ulonglong),
    "cudaGraphLaunch": (_ADDRESS, _ADDRESS),
    "cudaEventCreate": (_OUT,),
    "cudaEventRecord": (_ADDRESS, _ADDRESS),
    "cudaEventSynchronize": (_ADDRESS,),
    "cudaEventElapsedTime": (ctypes.POINTER(ctypes.c_float), _ADDRESS, _ADDRESS),
    "cudaDeviceGetAttribute": (ctypes.POINTER(ctypes.c_int), ctypes.c_int, ctypes.c_int),
    "cudaGetDeviceProperties": (_ADDRESS, ctypes.c_int),
    "cudaGetLastError": (),
}


@dataclass(frozen=True)
class Cuda:
    """The library, on the first GPU."""

    library: Any

    def allocate(self, size: int) -> int:
        """Bytes on the GPU."""
        return self._new("cudaMalloc", ctypes.c_size_t(max(1, size)))

    def pinned(self, size: int) -> int:
        """Bytes in the system's memory that copies need not go round about for."""
        return self._new("cudaMallocHost", ctypes.c_size_t(max(1, size)))

    def to_gpu(self, gpu: int, host: int, size: int, *, stream: int) -> None:
        """Queue a copy to the GPU."""
        self.call("cudaMemcpyAsync", gpu, host, size, TO_GPU, stream)

    def from_gpu(self, host: int, gpu: int, size: int, *, stream: int) -> None:
        """Queue a copy from the GPU."""
        self.call("cudaMemcpyAsync", host, gpu, size, FROM_GPU, stream)

    def stream(self) -> int:
        """A queue of work."""
        return self._new("cudaStreamCreate")

    def wait(self, stream: int) -> None:
        """Until all that is queued is done."""
        self.call("cudaStreamSynchronize", stream)

    def event(self) -> int:
        """A point in time on the GPU."""
        return self._new("cudaEventCreate")

    def record(self, event: int, *, stream: int) -> None:
        """The point is where all that is queued now is done."""
        self.call("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Between two points that have passed; CUDA resolves about half a microsecond."""
        found = ctypes.c_float()
        self.call("cudaEventElapsedTime", ctypes.byref(found), start, end)
        return float(found.value)

    def begin_graph(self, stream: int) -> None:
        """From here on work is recorded, not done."""
        self.call("cudaStreamBeginCapture", stream, THREAD_ALONE)

    def end_graph(self, stream: int) -> int:
        """What was recorded, ready to be launched."""
        graph = self._new_after("cudaStreamEndCapture", stream)
        found = ctypes.c_void_p()
        self.call("cudaGraphInstantiateWithFlags", ctypes.byref(found), graph, 0)
        return int(found.value or 0)

    def drop_graph(self, stream: int) -> None:
        """Leave a recording that failed; its error is not that of the next call."""
        self.library.cudaStreamEndCapture(stream, ctypes.byref(ctypes.c_void_p()))
        self.library.cudaGetLastError()

    def launch(self, graph: int, *, stream: int) -> None:
        """Queue the whole recording."""
        self.call("cudaGraphLaunch", graph, stream)

    def used_bytes(self) -> int:
        """Of the GPU's memory, by all processes; on a board that is the system's."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return total.value - free.value

    def device(self) -> dict[str, str]:
        """{"gpu", "compute_capability"}."""
        properties = ctypes.create_string_buffer(PROPERTY_BYTES)
        self.call("cudaGetDeviceProperties", ctypes.cast(properties, ctypes.c_void_p), 0)
        numbers = []
        for attribute in (MAJOR, MINOR):
            number = ctypes.c_int()
            self.call("cudaDeviceGetAttribute", ctypes.byref(number), attribute, 0)
            numbers.append(str(number.value))
        name = properties.raw[:NAME_BYTES].split(b"\0", 1)[0].decode("utf-8", "replace")
        return {"gpu": name, "compute_capability": ".".join(numbers)}

    def call(self, name: str, *arguments: Any) -> None:
        """One call; an error is raised in CUDA's words."""
        code = getattr(self.library, name)(*arguments)
        if code:
            words = (self.library.cudaGetErrorString(code) or b"").decode("utf-8", "replace")
            hint = " Free some memory of the device." if code == 2 else ""  # cudaErrorMemoryAllocation
            raise OnDeviceFailure("failed", f"CUDA: {name} failed: {words or 'unknown error'} ({code}).{hint}")

    def _new(self, name: str, *arguments: Any) -> int:
        found = ctypes.c_void_p()
        self.call(name, ctypes.byref(found), *arguments)
        return int(found.value or 0)

    def _new_after(self, name: str, *arguments: Any) -> int:
        found = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(found))
        return int(found.value or 0)


def open_cuda(library: str | None = None) -> Cuda:
    """The first libcudart that opens; `library` names one."""
    places = [library] if library else [*NAMES, *_in_folders(), find_library("cudart")]
    for place in places:
        if not place:
            continue
        try:
            found = ctypes.CDLL(place)
        except OSError:
            continue
        return Cuda(_signed(found, place))
    raise OnDeviceFailure(
        "missing", f"CUDA's runtime library was not found: {library or ', '.join(NAMES)}, looked for where libraries "
        "lie and below /usr/local/cuda. Install NVIDIA's cuda-cudart package.",
    )  # fmt: skip


def _in_folders() -> list[str]:
    return [str(path) for folder in FOLDERS for name in NAMES for path in sorted(Path(folder).glob(name))]


def _signed(library: Any, place: str) -> Any:
    for name, arguments in SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise OnDeviceFailure("missing", f"{place} has no {name}: CUDA 11.4 or later is needed.") from None
        function.argtypes, function.restype = list(arguments), ctypes.c_int
    library.cudaGetErrorString.argtypes, library.cudaGetErrorString.restype = [ctypes.c_int], ctypes.c_char_p
    return library
