"""The roofline by hand, and ResNet-50 against what MLPerf measured: where it holds, and where it does not."""

import ast
import dataclasses
import inspect
from itertools import pairwise
from typing import Any

import pytest

import targets.verdict
from targets.estimate import (
    Arithmetic,
    Estimate,
    LayerCost,
    Span,
    compute_capability,
    estimate,
    layer_ms,
    needed,
    span_ms,
)
from targets.find import target_named
from targets.intervals import Interval
from targets.profile import Fact, Figure, Profile, Variant
from targets.verdict import Verdict, judge

INT8, FP16, FP32 = Arithmetic.INT8, Arithmetic.FP16, Arithmetic.FP32


def figure(value: float, unit: str) -> Figure:
    return Figure(value, unit, "made up for a test")


# 10 TOPS, 4 TFLOPS in FP16, 1 in FP32, 100 GB/s: round numbers for paper.
BOARD = Variant(
    "board", int8=figure(10, "TOPS"), fp16=figure(4, "TFLOPS"), fp32=figure(1, "TFLOPS"),
    bandwidth=figure(100, "GB/s"),
)  # fmt: skip
AMPERE = Profile(Fact("a GPU, compute capability 8.6", "made up for a test"), (BOARD,))


def test_6_times_10_to_the_9_operations_at_30_percent_of_10_tops_take_2_ms() -> None:
    layer = LayerCost("conv", 6_000_000_000, 1_000, INT8)
    # All values here are exact quotients of round numbers; 1e-12 is for the division of floats.
    assert layer_ms(layer, BOARD, share=0.3, tf32=True) == pytest.approx(2.0, rel=1e-12)
    assert layer_ms(layer, BOARD, share=0.1, tf32=True) == pytest.approx(6.0, rel=1e-12)


def test_500_megabytes_at_100_gigabytes_per_second_take_5_ms_whatever_the_arithmetic() -> None:
    layer = LayerCost("gemm", 6_000_000_000, 500_000_000, INT8)
    assert layer_ms(layer, BOARD, share=0.3, tf32=True) == pytest.approx(5.0, rel=1e-12)
    assert layer_ms(layer, BOARD, share=0.1, tf32=True) == pytest.approx(6.0, rel=1e-12)


def test_fp32_is_half_of_fp16_where_there_is_tf32_and_1_tflops_where_there_is_none() -> None:
    layer = LayerCost("conv", 600_000_000, 0, FP32)
    assert layer_ms(layer, BOARD, share=0.3, tf32=True) == pytest.approx(1.0, rel=1e-12)
    assert layer_ms(layer, BOARD, share=0.3, tf32=False) == pytest.approx(2.0, rel=1e-12)
    assert layer_ms(dataclasses.replace(layer, arithmetic=FP16), BOARD, share=0.3, tf32=False) == pytest.approx(0.5)


def test_2_layers_add_up_and_each_may_take_6_microseconds_to_start() -> None:
    layers = [LayerCost("a", 6_000_000_000, 0, INT8), LayerCost("b", 0, 500_000_000, INT8)]
    span = span_ms(layers, BOARD, tf32=True)
    assert span.low == pytest.approx(2 + 5, rel=1e-12)
    assert span.high == pytest.approx(6 + 5 + 2 * 0.006, rel=1e-12)


def test_a_ratio_of_2_spans_has_the_ends_that_lie_furthest_apart() -> None:
    made = Estimate("board", Span(1, 4), Span(6, 8), "", ())
    assert made.speedup == Span(6 / 4, 8 / 1)
    assert made.as_json()["label"] == "estimate, not a measurement"
    assert made.as_json()["speedup"] == {"low": 1.5, "high": 8.0}


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("int8", "no source was found for its peak in INT8"),
        ("fp16", "no source was found for its peak in FP16"),
        ("bandwidth", "no source was found for its memory bandwidth"),
    ],
)
def test_where_1_figure_lacks_there_is_no_estimate_and_its_name_is_said(missing: str, said: str) -> None:
    engine, teacher = [LayerCost("conv", 10, 10, INT8)], [LayerCost("conv", 10, 10, FP32)]
    lacking: dict[str, Any] = {missing: None}
    board = dataclasses.replace(BOARD, **lacking)
    made = estimate(dataclasses.replace(AMPERE, variants=(board,)), engine=engine, teacher=teacher)
    assert (made.engine_ms, made.teacher_ms, made.speedup) == (None, None, None)
    assert made.missing == said
    assert made.board == "board"


def test_of_2_missing_figures_both_are_named_and_of_an_unused_one_nothing_is_said() -> None:
    board = dataclasses.replace(BOARD, int8=None, bandwidth=None)
    layers = [LayerCost("conv", 10, 10, INT8)]
    made = estimate(dataclasses.replace(AMPERE, variants=(board,)), engine=layers, teacher=layers)
    assert made.missing == "no source was found for its peak in INT8 and its memory bandwidth"
    assert needed(layers, tf32=True) == ["int8", "bandwidth"]


def test_0_boards_a_processor_or_an_unknown_shape_give_a_reason_and_no_number() -> None:
    layers = [LayerCost("conv", 10, 10, INT8)]
    none = [
        estimate(None, engine=layers, teacher=layers),
        estimate(target_named("arm64-cpu").profile, engine=layers, teacher=layers),
        estimate(target_named("raspberry-pi-5").profile, engine=layers, teacher=layers),
        estimate(AMPERE, engine=None, teacher=layers),
    ]
    assert [made.engine_ms for made in none] == [None] * 4
    assert all(made.missing for made in none)
    assert "share of its peak a processor reaches" in none[2].missing


def test_every_gpu_that_is_known_says_its_compute_capability_and_no_processor_does() -> None:
    gpus = {"jetson-orin": 8.7, "jetson-xavier-nx": 7.2, "nvidia-t4": 7.5, "nvidia-l4": 8.9, "nvidia-h200": 9.0}
    for name, capability in gpus.items():
        profile = target_named(name).profile
        assert profile is not None
        assert compute_capability(profile) == capability
    processor = target_named("raspberry-pi-5").profile
    assert processor is not None
    assert compute_capability(processor) is None


def resnet50() -> list[LayerCost]:
    """ResNet-50 v1.5 in INT8, 224 × 224, one input, as it would be fused: He et al. 2016, arXiv:1512.03385, table 1.

    v1.5: the stride of a block is in its 3 × 3 convolution. Every tensor has one byte per element but the input (four,
    before it is quantized) and the biases.
    """
    layers = [LayerCost("quantize", 3 * 224**2, 5 * 3 * 224**2, FP32)]

    def conv(inputs: int, outputs: int, *, kernel: int, side: int, stride: int = 1, added: bool = False) -> None:
        """`side` of the output; added: the other branch is read too."""
        weights, written = inputs * outputs * kernel**2, outputs * side**2
        moved = inputs * (side * stride) ** 2 + weights + 4 * outputs + written * (2 if added else 1)
        layers.append(LayerCost("conv", 2 * weights * side**2, moved, INT8))

    conv(3, 64, kernel=7, side=112, stride=2)
    layers.append(LayerCost("pool", 9 * 64 * 56**2, 64 * (112**2 + 56**2), INT8))
    entering = 64
    for width, blocks, side in ((64, 3, 56), (128, 4, 28), (256, 6, 14), (512, 3, 7)):
        for block in range(blocks):
            stride = 2 if block == 0 and width > 64 else 1
            conv(entering, width, kernel=1, side=side * stride)
            conv(width, width, kernel=3, side=side, stride=stride)
            if block == 0:
                conv(entering, 4 * width, kernel=1, side=side, stride=stride)
            conv(width, 4 * width, kernel=1, side=side, added=True)
            entering = 4 * width
    layers.append(LayerCost("mean", 2048 * 7**2, 2048 * (7**2 + 1), INT8))
    layers.append(LayerCost("gemm", 2 * 2048 * 1000, 2048 + 2048 * 1000 + 4 * 1000 + 1000, INT8))
    return layers


def test_the_layer_list_of_resnet50_has_53_convolutions_and_4_09_gmacs() -> None:
    layers = resnet50()
    assert sum(layer.name == "conv" for layer in layers) == 53
    products = [layer for layer in layers if layer.name in ("conv", "gemm")]
    # 4.09 · 10⁹ multiply-adds is what is published of v1.5 at 224 × 224 (torchvision: 4.089).
    assert sum(layer.operations for layer in products) / 2 == pytest.approx(4.089e9, rel=1e-3)


# MLPerf inference, single stream, 90th percentile, batch 1; github.com/mlcommons/inference_results_* of the round.
MEASURED_MS = {
    "jetson-orin": (0.640, "v3.1, Orin_TRT, MaxP"),
    "jetson-orin-nx": (1.082, "v3.1, Orin_NX_TRT"),
    "jetson-xavier-nx": (2.461, "v2.0"),
    "nvidia-l4": (0.349, "v3.1"),
    "nvidia-a10": (0.466, "v1.1"),
    "nvidia-t4": (1.086, "v0.7"),
    "nvidia-a2": (0.706, "v2.0"),
}
ABOVE = {"nvidia-t4": 0.98}  # slower than the high end: TensorRT 7, of 2020, at 6 % of the peak
WITHOUT = {"nvidia-a2": "no source was found for its memory bandwidth"}


def estimated(target: str) -> Estimate:
    return estimate(target_named(target).profile, engine=resnet50(), teacher=resnet50())


@pytest.mark.parametrize("target", sorted(MEASURED_MS.keys() - ABOVE.keys() - WITHOUT.keys()))
def test_resnet50_on_5_boards_took_a_time_within_the_estimate(target: str) -> None:
    measured_ms, _ = MEASURED_MS[target]
    span = estimated(target).engine_ms
    assert span is not None
    assert span.low <= measured_ms <= span.high, span


def test_resnet50_on_1_board_took_longer_than_the_estimate_and_on_1_there_is_none() -> None:
    for target, high_ms in ABOVE.items():
        span = estimated(target).engine_ms
        assert span is not None
        assert span.high < MEASURED_MS[target][0]
        assert span.high == pytest.approx(high_ms, rel=0.01)  # the docs say it to two digits
    assert {target: estimated(target).missing for target in WITHOUT} == WITHOUT


def test_a2_would_be_8_percent_below_the_estimate_if_its_bandwidth_were_200_gigabytes_per_second() -> None:
    profile = target_named("nvidia-a2").profile
    assert profile is not None
    # 200 GB/s is said of it without a source that was found, so the profile has none.
    board = dataclasses.replace(profile.variants[0], bandwidth=figure(200, "GB/s"))
    span = estimate(dataclasses.replace(profile, variants=(board,)), engine=resnet50(), teacher=resnet50()).engine_ms
    assert span is not None
    assert MEASURED_MS["nvidia-a2"][0] / span.low == pytest.approx(0.92, abs=0.01)  # said to a percent


def test_more_bandwidth_or_more_operations_per_second_never_make_1_estimate_longer() -> None:
    spans = [
        span_ms(
            resnet50(),
            dataclasses.replace(BOARD, int8=figure(10 * times, "TOPS"), bandwidth=figure(100 * times, "GB/s")),
            tf32=True,
        )
        for times in (1, 2, 4, 8)
    ]
    assert all(slow.low > fast.low and slow.high > fast.high for slow, fast in pairwise(spans))


def test_0_of_the_types_of_an_estimate_are_taken_by_what_judges_a_limit() -> None:
    tree = ast.parse(inspect.getsource(targets.verdict))
    taken = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not [line for line in taken if "estimate" in line]
    assert not issubclass(Span, Interval)
    assert inspect.signature(judge).parameters["interval"].annotation is Interval
    assert {field.type for field in dataclasses.fields(Verdict)}.isdisjoint({Span, Estimate, LayerCost})
