"""A scheme is plain data: what fits together, what does not, and that it survives JSON."""

import json
from dataclasses import asdict, replace

import pytest

from targets.devices.x86_cpu import scheme_from_features
from targets.schemes import ARM64, TENSORRT, TENSORRT_FLOAT16
from targets.target import Scheme

ALL = (scheme_from_features(()), scheme_from_features(("amx_int8",)), ARM64, TENSORRT, TENSORRT_FLOAT16)


@pytest.mark.parametrize("scheme", ALL)
def test_5_schemes_come_back_from_json_as_they_were(scheme: Scheme) -> None:
    assert Scheme(**json.loads(json.dumps(asdict(scheme)))) == scheme


def test_a_scheme_of_4_fields_has_float32_and_no_fused_sums() -> None:
    old = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="no VNNI")
    assert (old.fused_additions, old.float_bits, old.affine_activations) == (False, 32, False)


def test_all_but_tensorrts_2_schemes_take_zero_points() -> None:
    assert [scheme.affine_activations for scheme in ALL] == [True, True, True, False, False]


def test_only_tensorrts_2_schemes_are_symmetric() -> None:
    assert [scheme.symmetric for scheme in ALL] == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight_bits": 4}, "weights of 4 bits"),
        ({"signed_zero_point": 1}, "not at 1"),
        ({"float_bits": 8}, "floats of 8 bits"),
        ({"unsigned_activations": True}, "int8 around 0 only"),
        ({"signed_zero_point": 128}, "int8 around 0 only"),
        ({"affine_activations": True}, "unsigned activations only"),
    ],
)
def test_6_schemes_that_make_no_sense_are_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(TENSORRT_FLOAT16, **changes)  # type: ignore[arg-type]
