"""What is said of devices: computed peaks against those that NVIDIA states, sources everywhere, x86 told apart."""

import math
from dataclasses import fields
from itertools import product

import pytest

from targets.devices import x86_amx, x86_avx2, x86_vnni
from targets.find import target_named
from targets.gpu_profile import Gpu, gpu_variant
from targets.profile import Fact, Figure, PowerMode, Profile, Software, Variant
from targets.schemes import ARM64, TENSORRT, TENSORRT_FLOAT16

PROFILED = (
    "arm64-cpu", "jetson-orin", "jetson-orin-nano", "jetson-orin-nx", "jetson-thor", "jetson-xavier-nx", "nvidia-a10",
    "nvidia-a2", "nvidia-h200", "nvidia-l4", "nvidia-t4", "raspberry-pi-5", "rtx-4060", "x86-amx", "x86-avx2",
    "x86-vnni",
)  # fmt: skip


def profile_of(name: str) -> Profile:
    profile = target_named(name).profile
    assert profile is not None
    return profile


@pytest.mark.parametrize(
    ("target", "board", "stated_tops"),
    [
        ("nvidia-t4", "NVIDIA T4", 130.0),
        ("nvidia-a10", "NVIDIA A10", 250.0),
        ("nvidia-a2", "NVIDIA A2", 36.0),
        ("nvidia-l4", "NVIDIA L4", 485 / 2),  # stated with sparsity
        ("rtx-4060", "GeForce RTX 4060", 242 / 2),  # likewise
        ("jetson-orin", "Jetson AGX Orin 64GB", 170 / 2),  # likewise
        ("jetson-orin", "Jetson AGX Orin 32GB", 108 / 2),  # likewise
        ("jetson-orin-nano", "Jetson Orin Nano 8GB", 40 / 2),  # likewise
        ("jetson-orin-nano", "Jetson Orin Nano 8GB Super", 67 / 2),  # likewise
        ("jetson-orin-nano", "Jetson Orin Nano 4GB", 20 / 2),  # likewise
    ],
)
def test_the_computed_int8_peak_is_the_stated_one_to_3_percent(target: str, board: str, stated_tops: float) -> None:
    (variant,) = [each for each in profile_of(target).variants if each.name == board]
    assert variant.int8 is not None
    # NVIDIA rounds to whole TOPS, and its clocks to tens of MHz: 20 of Orin Nano are 20.48.
    assert variant.int8.value == pytest.approx(stated_tops, rel=0.03)
    assert variant.int8.unit == "TOPS"
    assert variant.fp16 is not None
    assert variant.fp16.value == variant.int8.value / 2


def test_16_multiprocessors_at_1300_mhz_multiply_85_times_10_to_the_12_int8() -> None:
    variant = gpu_variant("board", Gpu(16, 1300, 2048, 128, "a data sheet"), memory_gb=64, memory_source="the same")
    assert variant.int8 is not None
    assert variant.fp32 is not None
    assert variant.int8.value == pytest.approx(16 * 1.3e9 * 2 * 2048 / 1e12, rel=1e-12)  # the same product, in float
    assert variant.fp32.value == pytest.approx(5.3248, rel=1e-12)  # 2048 cores · 1.3 GHz · 2; likewise
    assert variant.int8.source == "computed: 16 multiprocessors × 1300 MHz × 2 × 2048; a data sheet"


@pytest.mark.parametrize("name", PROFILED)
def test_each_of_16_devices_has_a_profile_whose_every_figure_has_a_unit_and_a_source(name: str) -> None:
    profile = profile_of(name)
    lacking = profile.not_found()
    seen = 0
    for variant in profile.variants:
        assert len({mode.name for mode in variant.power_modes}) == len(variant.power_modes)
        assert sum(mode.preset for mode in variant.power_modes) <= 1
        for each in fields(Variant):
            figure = getattr(variant, each.name)
            if figure is None:
                assert f"{each.name} of {variant.name}" in lacking
            elif isinstance(figure, Figure):
                seen += 1
                assert figure.source
                assert figure.unit in ("TOPS", "TFLOPS", "GB", "GB/s")
    assert seen or not profile.variants
    facts = (profile.processor, *profile.remarks)
    assert all([*(fact.source for fact in facts), *(release.source for release in profile.software)])


def test_of_the_h200_2_peaks_were_not_found_and_none_is_made_up() -> None:
    assert profile_of("nvidia-h200").not_found() == ("int8 of NVIDIA H200 SXM", "fp32 of NVIDIA H200 SXM")


def test_an_operator_set_that_is_not_known_is_named() -> None:
    profile = Profile(Fact("a processor", "a page"), software=(Software("JetPack 0", "TensorRT 0", None, "a page"),))
    assert profile.not_found() == ("operator set of JetPack 0",)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_figure_of_0_or_none_at_all_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        Figure(value, "GB", "a data sheet")


def test_a_figure_without_1_source_is_refused() -> None:
    with pytest.raises(ValueError, match="source"):
        Figure(8, "GB", "")
    with pytest.raises(ValueError, match="source"):
        Fact("it is fast", "")


def test_orin_nano_stands_for_4_boards_and_starts_at_15_or_25_watts() -> None:
    boards = profile_of("jetson-orin-nano").variants
    assert [board.name.removeprefix("Jetson Orin Nano ") for board in boards] == [
        "8GB", "8GB Super", "4GB", "4GB Super",
    ]  # fmt: skip
    presets = [[mode.name for mode in board.power_modes if mode.preset] for board in boards]
    assert presets == [["15W"], ["25W"], [], ["25W"]]


def test_jetpack_5_and_6_0_read_operator_set_17_at_most() -> None:
    said = {each.release: each.opset for name in PROFILED for each in profile_of(name).software}
    assert {release: opset for release, opset in said.items() if release.startswith(("JetPack 5", "JetPack 6.0"))} == {
        "JetPack 5.0.2": 17, "JetPack 5.1 to 5.1.6": 17, "JetPack 6.0": 17,
    }  # fmt: skip


def test_the_15_other_devices_have_the_scheme_of_their_kind_and_thor_float16() -> None:
    schemes = {name: target_named(name).scheme() for name in PROFILED}
    nvidia = {name for name in PROFILED if name.startswith(("jetson", "nvidia", "rtx"))}
    assert {name for name in PROFILED if schemes[name] == TENSORRT} == nvidia - {"jetson-thor"}
    assert schemes["jetson-thor"] == TENSORRT_FLOAT16
    assert {name for name in PROFILED if schemes[name] == ARM64} == {"arm64-cpu", "raspberry-pi-5"}
    assert [schemes[name].sums_in_16_bits for name in ("x86-avx2", "x86-vnni", "x86-amx")] == [True, False, False]


def test_a_processor_with_avx2_is_exactly_1_of_3_kinds() -> None:
    for vnni, avx_vnni, amx in product((False, True), repeat=3):
        names = [
            "avx2", *["avx512_vnni"] * vnni, *["avx_vnni"] * avx_vnni, *["amx_int8"] * amx,
        ]  # fmt: skip
        kinds = [device.is_such(tuple(names)) for device in (x86_avx2, x86_vnni, x86_amx)]
        assert sum(kinds) == 1, names
    assert x86_avx2.is_such(("sse4_1", "avx2"))
    assert x86_vnni.is_such(("avx2", "avx512_vnni"))
    assert x86_amx.is_such(("avx2", "avx512_vnni", "amx_int8"))
    assert not any(device.is_such(("sse4_1",)) for device in (x86_avx2, x86_vnni, x86_amx))


def test_a_power_mode_may_be_known_by_1_name_alone() -> None:
    assert PowerMode("30W", "a page").allows == ""
