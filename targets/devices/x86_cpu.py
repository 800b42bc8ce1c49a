"""The x86 processor of the machine we are on, through ONNX Runtime; through OpenVINO too where that is installed.

Its integer kernels multiply unsigned activations with signed weights. Before VNNI the instruction behind them
(vpmaddubsw) adds two such products in 16 bits and saturates: 255·127·2 = 64 770 > 32 767. Where the two weights of one
sign add up to 128 at the most, nothing can: 255·128 = 32 640. VNNI and AMX add in 32 bits.
"""

from collections.abc import Mapping
from typing import Any

from targets.budget import Budget, Limit
from targets.engines.openvino import OpenVino
from targets.engines.ort import OnnxRuntime
from targets.fits import features, x86_with
from targets.reach.local import cpu_features, is_x86
from targets.target import Scheme, Target

EXACT_AT_EIGHT_BITS = ("avx512_vnni", "avx_vnni", "amx_int8")


def scheme_from_features(features: tuple[str, ...]) -> Scheme:
    """Weights of 8 bits: any where products are added in 32 bits, else those whose neighbours cannot saturate."""
    exact = [feature for feature in EXACT_AT_EIGHT_BITS if feature in features]
    if exact:
        why = f"{exact[0]} adds 8-bit products in 32 bits: full 8-bit weights are exact"
    else:
        why = (
            "no VNNI or AMX: neighbouring products are added in 16 bits, and with codes that add up to 128 at the most "
            "none saturates"
        )
    return Scheme(
        weight_bits=8, unsigned_activations=True, signed_zero_point=128, why=why, sums_in_16_bits=not exact,
        affine_activations=True,
    )  # fmt: skip


def scheme_there(facts: Mapping[str, Any]) -> Scheme:
    """The scheme of a device's processor."""
    return scheme_from_features(features(facts))


def scheme_here() -> Scheme:
    """The scheme of this machine's processor."""
    return scheme_from_features(cpu_features())


TARGET = Target(
    name="x86-cpu",
    summary="the x86 processor of this machine, ONNX Runtime",
    engine=OnnxRuntime(),
    further_engines=(OpenVino(),),
    scheme=scheme_here,
    budget=Budget(
        (
            Limit("max_latency_ms", 33.3, "target x86-cpu"),  # one frame at 30 per second
            Limit("min_speedup", 1.0, "target x86-cpu"),  # never hand over an engine slower than what it replaces
            Limit("max_accuracy_drop_points", 1.0, "target x86-cpu"),
        )
    ),
    is_here=is_x86,
    fits=x86_with(),
    scheme_of=scheme_there,
    sources=(
        "Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: VPMADDUBSW saturates to 16 bits, "
        "VPDPBUSD adds in 32",
        "ONNX Runtime documentation, 'Quantize ONNX models', on saturation of U8S8 on AVX2 and AVX512 and reduce_range",
        "33.3 ms: 1000 / 30, one frame of a camera at 30 per second",
    ),
)
