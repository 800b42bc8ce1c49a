"""An x86 processor with AVX2 and neither VNNI nor AMX, through ONNX Runtime."""

from targets.devices.x86_cpu import EXACT_AT_EIGHT_BITS, scheme_from_features
from targets.engines.openvino import OpenVino
from targets.engines.ort import OnnxRuntime
from targets.fits import x86_with
from targets.one_frame import SOURCE, one_frame_budget
from targets.profile import Fact, Profile
from targets.reach.local import cpu_features, is_x86
from targets.target import Scheme, Target

MANUAL = "Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: VPMADDUBSW saturates to 16 bits"


def scheme() -> Scheme:
    """Neighbouring products are added in 16 bits."""
    return scheme_from_features(("avx2",))


def is_here() -> bool:
    """Whether this machine has AVX2 and nothing newer for integers."""
    return is_x86() and is_such(cpu_features())


def is_such(features: tuple[str, ...]) -> bool:
    """Whether a processor with these features is one."""
    return "avx2" in features and not any(each in features for each in EXACT_AT_EIGHT_BITS)


TARGET = Target(
    name="x86-avx2",
    summary="x86 with AVX2, without VNNI and AMX, ONNX Runtime",
    engine=OnnxRuntime(),
    further_engines=(OpenVino(),),
    scheme=scheme,
    budget=one_frame_budget("x86-avx2"),
    is_here=is_here,
    fits=x86_with(is_such, what="no AVX2 without VNNI and AMX"),
    sources=(MANUAL, SOURCE),
    profile=Profile(
        processor=Fact("avx2; none of avx512_vnni, avx_vnni, amx_int8", MANUAL),
        remarks=(
            Fact(
                "int8 products that are added in pairs saturate: 17.8 % relative error (root mean square) of a small "
                "network whose weights are not kept from it",
                "measured with ONNX Runtime 1.31 on Zen 3",
            ),
        ),
    ),
)
