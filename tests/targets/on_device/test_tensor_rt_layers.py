"""The engine inspector's JSON as several versions write it, and what an engine's identity is held against: by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from targets.on_device.failures import OnDeviceFailure
from targets.on_device.tensor_rt_identity import check_identity, free_bytes, timing_cache_of, workspace_of
from targets.on_device.tensor_rt_layers import counts, float_remark, layer_rows, with_times


def tensor(form: str) -> list[dict[str, Any]]:
    return [{"Name": "t", "Location": "Device", "Dimensions": [1, 32, 28, 28], "Format/Datatype": form}]


LONG = tensor("Thirty-two wide channel vectorized row major Int8 format.")
SHORT = tensor("Int8 NC/32HW32")
HALF = tensor("Half NHWC8")
FLOAT = tensor("Row major linear FP32")
DYNAMIC = tensor("N/A due to dynamic shapes")


@pytest.mark.parametrize(
    ("layer", "kind", "precision", "integer"),
    [
        # 8.5: the parameter type says what it is, the layer type how it is done
        ({"LayerType": "CaskConvolution", "ParameterType": "Convolution", "Inputs": LONG, "Outputs": LONG,
          "Weights": {"Type": "Int8", "Count": 9}}, "Convolution", "INT8", True),
        # 10.x: weights that fell back
        ({"LayerType": "CaskConvolution", "Inputs": HALF, "Outputs": HALF, "Weights": {"Type": "Half"}},
         "CaskConvolution", "FP16", False),
        # integer weights, and no quantizer before the layer
        ({"LayerType": "CaskGemm", "Inputs": FLOAT, "Outputs": FLOAT, "Weights": {"Type": "Int8"}}, "CaskGemm", "FP32",
         False),
        # fixed nowhere: the name of the tactic says it
        ({"LayerType": "gemm", "Inputs": DYNAMIC, "Outputs": DYNAMIC,
          "TacticName": "sm80_xmma_gemm_i8i8_i8i32_f32_tn"}, "gemm", "INT8", True),
        ({"LayerType": "gemm", "Inputs": DYNAMIC, "Outputs": DYNAMIC, "TacticName": "sm80_xmma_gemm_f16"}, "gemm",
         "unknown", False),
        # fused by the compiler: no weights are told
        ({"LayerType": "kgen", "Inputs": SHORT, "Outputs": HALF}, "kgen", "INT8", True),
        ({"LayerType": "kgen", "Inputs": HALF, "Outputs": SHORT}, "kgen", "FP16", False),
        # small letters, and type and format apart
        ({"layerType": "pooling", "inputs": [{"format": "NCHW", "datatype": "FP32"}]}, "pooling", "FP32", False),
        ({"LayerType": "Reformat", "Inputs": FLOAT, "Outputs": SHORT, "Origin": "QDQ"}, "Reformat", "INT8", False),
    ],
)  # fmt: skip
def test_each_of_9_layers_is_told_as_its_version_tells_it(
    layer: dict[str, Any], kind: str, precision: str, integer: bool
) -> None:
    row = layer_rows({"Layers": [{"Name": "l", **layer}], "Bindings": []})[0]
    assert (row["name"], row["kind"], row["precision"], row["integer"]) == ("l", kind, precision, integer)
    assert row["why"]


def test_a_reformat_is_named_by_its_2_types() -> None:
    layers = [
        {"Name": "a", "LayerType": "Reformat", "Inputs": HALF, "Outputs": SHORT, "Origin": "QDQ"},
        {"Name": "b", "LayerType": "NoOp", "ParameterType": "Reformat", "Inputs": SHORT, "Outputs": FLOAT},
        {"Name": "c", "LayerType": "Reformat", "Inputs": HALF, "Outputs": tensor("Half NCHW")},
    ]
    rows = layer_rows(json.dumps({"Layers": layers}))
    assert [row["why"] for row in rows] == [
        "quantizes FP16 to INT8 (origin QDQ)",
        "dequantizes INT8 to FP32",
        "changes the layout of FP16",
    ]
    assert counts(rows) == {"layers": 3, "integer": 0, "reformats": 3}


def test_an_engine_that_keeps_2_names_alone_says_that_it_does() -> None:
    rows = layer_rows({"Layers": ["conv1 + relu1", "fc"]})
    assert [(row["name"], row["precision"], row["integer"]) for row in rows] == [
        ("conv1 + relu1", "unknown", False),
        ("fc", "unknown", False),
    ]
    assert "without detailed profiling" in rows[0]["why"]


def test_a_strongly_typed_engine_without_1_half_is_remarked_on() -> None:
    eight, real, half = (
        {"LayerType": "conv", "Inputs": form, "Outputs": form, "Weights": {"Type": kind}}
        for form, kind in ((SHORT, "Int8"), (FLOAT, "Float"), (HALF, "Half"))
    )
    assert "float16 ONNX" in float_remark(layer_rows([eight, real]), strong=True)
    assert float_remark(layer_rows([eight, real]), strong=False) == ""
    assert float_remark(layer_rows([eight, real, half]), strong=True) == ""
    assert float_remark(layer_rows([eight]), strong=True) == ""


def test_times_are_joined_by_name_and_1_that_only_the_profile_has_is_kept() -> None:
    rows = layer_rows({"Layers": ["a", "b"]})
    found = with_times(rows, {"a": {"ms": 0.5, "statistic": "median"}, "c": {"ms": 0.25, "statistic": "median"}})
    assert [(row["name"], row["median_ms"], row["statistic"]) for row in found] == [
        ("a", 0.5, "median"),
        ("b", 0.0, "not timed"),
        ("c", 0.25, "median"),
    ]


OWN = {"runtime": "tensorrt 10.3.0", "gpu": "ga10b", "compute_capability": "8.7", "board": "AGX Orin", "l4t": "36.4.3"}


@pytest.mark.parametrize(
    ("key", "theirs"),
    [
        ("runtime", "tensorrt 10.13.3"),
        ("gpu", "gb10b"),
        ("compute_capability", "8.6"),
        ("board", "NX"),
        ("l4t", "36.3"),
    ],
)
def test_an_engine_with_1_of_5_marks_of_another_device_is_refused_with_both_values(key: str, theirs: str) -> None:
    check_identity({"identity": OWN}, "m.plan", own=OWN)
    with pytest.raises(OnDeviceFailure) as failure:
        check_identity({"identity": {**OWN, key: theirs}}, "m.plan", own=OWN)
    assert failure.value.kind == "refused"
    assert f"was {theirs}, here it is {OWN[key]}" in failure.value.sentence
    check_identity({"identity": {**OWN, key: theirs}}, "m.plan", own={**OWN, key: None})  # nothing to hold it against


def test_each_of_2_engines_has_its_own_identity_and_none_is_opened_without() -> None:
    other = {**OWN, "gpu": "gb10b"}
    job = {"identities": {"a.plan": OWN, "b.plan": other}}
    check_identity(job, "a.plan", own=OWN)
    with pytest.raises(OnDeviceFailure, match=r"b\.plan was built elsewhere: the GPU was gb10b, here it is ga10b"):
        check_identity(job, "b.plan", own=OWN)
    with pytest.raises(OnDeviceFailure, match=r"does not say what built c\.plan"):
        check_identity(job, "c.plan", own=OWN)


def test_the_timing_cache_of_2_power_modes_is_2_files_beside_the_blobs(tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "1"
    folder.mkdir(parents=True)
    assert timing_cache_of({}, folder, own=OWN, power_mode="25W") == folder / "timing.cache"
    assert timing_cache_of({"timing_cache": "t"}, folder, own=OWN, power_mode="25W").parent == folder
    (tmp_path / "blobs").mkdir()
    places = {timing_cache_of({"timing_cache": "t"}, folder, own=OWN, power_mode=mode) for mode in ("25W", "15W")}
    places |= {timing_cache_of({"timing_cache": "t"}, folder, own={**OWN, "gpu": "x"}, power_mode="25W")}
    assert len(places) == 3
    assert {place.parent for place in places} == {tmp_path / "timing"}
    for name in ("../t", "/t", ".t", 3):
        with pytest.raises(OnDeviceFailure, match="plain file name"):
            timing_cache_of({"timing_cache": name}, folder, own=OWN, power_mode=None)


def test_a_board_gives_a_quarter_of_its_free_memory_to_the_builder(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable:    4096000 kB\n")
    assert free_bytes(tmp_path / "meminfo") == 4096000 * 1024
    assert free_bytes(tmp_path / "nothing") is None
    free = free_bytes()
    given = workspace_of({}, {"board": "AGX Orin"})
    assert given is not None and free is not None
    assert given == pytest.approx(free / 4 / 2**20, rel=0.2)  # what is free moves between the two readings
    assert workspace_of({}, {"board": None}) is None
    assert workspace_of({"workspace_mb": 512}, {"board": "AGX Orin"}) == 512
    with pytest.raises(OnDeviceFailure, match="whole number"):
        workspace_of({"workspace_mb": 0}, {})
