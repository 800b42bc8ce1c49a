"""An x86 processor with VNNI and without AMX, through ONNX Runtime."""

from targets.devices.x86_cpu import scheme_from_features
from targets.engines.openvino import OpenVino
from targets.engines.ort import OnnxRuntime
from targets.fits import x86_with
from targets.one_frame import SOURCE, one_frame_budget
from targets.profile import Fact, Profile
from targets.reach.local import cpu_features, is_x86
from targets.target import Scheme, Target

MANUAL = "Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: VPDPBUSD adds in 32 bits"
FEATURES = ("avx512_vnni", "avx_vnni")


def scheme() -> Scheme:
    """Products are added in 32 bits."""
    return scheme_from_features(("avx512_vnni",))


def is_here() -> bool:
    """Whether this machine has VNNI and no AMX."""
    return is_x86() and is_such(cpu_features())


def is_such(features: tuple[str, ...]) -> bool:
    """Whether a processor with these features is one."""
    return any(each in features for each in FEATURES) and "amx_int8" not in features


TARGET = Target(
    name="x86-vnni",
    summary="x86 with VNNI, without AMX, ONNX Runtime",
    engine=OnnxRuntime(),
    further_engines=(OpenVino(),),
    scheme=scheme,
    budget=one_frame_budget("x86-vnni"),
    is_here=is_here,
    fits=x86_with(is_such, what="no VNNI without AMX"),
    sources=(MANUAL, SOURCE),
    profile=Profile(processor=Fact("avx512_vnni or avx_vnni; not amx_int8", MANUAL)),
)
