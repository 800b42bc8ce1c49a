"""Which of several engines is handed over: by their times, and by whether they answer what their network answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.candidate import Candidate, Form
from pipeline.quantization.kernel_choice import LayerCost
from pipeline.stages.rivals import WORTH_A_PACKAGE, Rival, fastest, ratio_interval
from targets.engines.nothing import Nothing
from targets.measurement import Pairs
from targets.runner import Engine

ORIGIN = Candidate("teacher", Form.TORCH, "1" * 64, Path("weights"))
COST = LayerCost("conv", integer_ms=0.3, float_ms=0.2, conversions_ms=0.05)
OURS, OTHER = Nothing("onnxruntime"), Nothing("openvino")


def rival(arithmetic: str, engine: Engine = OURS) -> Rival:
    return Rival(arithmetic, engine, Path(f"{arithmetic}{engine.suffix}"), ORIGIN, (("ONNX", Path("model.onnx")),))


def alike(_rival: Rival) -> str:
    return ""


def place_of(times_ms: list[float], *rivals: Rival) -> int:
    best, unfit = fastest(rivals, [(each,) * 400 for each in times_ms], differs=alike)
    assert unfit == {}
    return best


FOUR = (rival("int8"), rival("float"), rival("int8", OTHER), rival("float", OTHER))


@pytest.mark.parametrize(
    ("times_ms", "best"),
    [
        ([2.0, 3.0, 2.5, 4.0], 0),
        ([3.0, 2.0, 2.5, 4.0], 1),
        ([2.0, 3.0, 1.5, 4.0], 2),
        ([2.0, 3.0, 1.5, 1.0], 3),
        ([3.0, 2.0, 1.5, 1.4], 3),
        ([2.0, 2.0, 2.0, 2.0], 0),
    ],
)
def test_the_fastest_of_4_is_handed_over_and_the_first_of_equals(times_ms: list[float], best: int) -> None:
    assert place_of(times_ms, *FOUR) == best


@pytest.mark.parametrize(("mixed_ms", "best"), [(1.9, 2), (2.0, 0), (2.1, 0)])
def test_a_mixed_engine_is_handed_over_only_where_it_is_faster_than_int8_at_2_ms(mixed_ms: float, best: int) -> None:
    three = (rival("int8"), rival("float"), replace(rival("mixed"), kernels=(COST,)))
    assert place_of([2.0, 3.0, mixed_ms], *three) == best
    assert place_of([3.0, 1.8, mixed_ms], *three) == 1
    assert three[2].words == "the INT8 engine of nothing 1 with 1 layer in float kernels"
    assert three[0].words == "the INT8 engine of nothing 1"


def test_an_int8_engine_slower_than_a_float_one_is_handed_over_in_0_of_24_orders() -> None:
    for slower in range(4):
        for faster in range(4):
            if slower == faster:
                continue
            for other in (3.0, 5.0):
                times_ms = [other] * 4
                times_ms[slower], times_ms[faster] = 2.0, 1.0
                best = place_of(times_ms, *FOUR)
                assert times_ms[best] == 1.0


def test_another_package_is_asked_for_from_2_percent_on_and_our_own_float_engine_from_the_first() -> None:
    assert WORTH_A_PACKAGE == 1.02
    assert place_of([1.015, 1.0], rival("int8"), rival("int8", OTHER)) == 0
    assert place_of([1.025, 1.0], rival("int8"), rival("int8", OTHER)) == 1
    assert place_of([1.001, 1.0], rival("int8"), rival("float")) == 1
    # Once the package is needed anyhow, its faster engine needs no margin.
    assert place_of([2.0, 1.001, 1.0], rival("int8"), rival("int8", OTHER), rival("float", OTHER)) == 2


def test_an_int8_engine_beyond_the_accuracy_budget_gives_way_to_the_fastest_of_2_within_it_though_both_are_slower() -> (
    None
):
    times_ms = [(each,) * 400 for each in (1.0, 3.0, 0.5, 2.0)]

    def differs(each: Rival) -> str:
        return "beyond the accuracy budget" if each.arithmetic == "int8" else ""

    best, unfit = fastest(FOUR, times_ms, differs=differs, over_budget="beyond the accuracy budget")
    assert (best, set(unfit)) == (3, {0, 2})
    # with no rival within it the first stays, and the verdict says what it is
    best, _ = fastest(FOUR, times_ms, differs=lambda _: "no", over_budget="beyond the accuracy budget")
    assert best == 0


def test_times_that_overlap_decide_nothing() -> None:
    draw = np.random.default_rng(0)
    wide, other = (tuple(draw.uniform(1, 2, size=400).tolist()) for _ in range(2))  # the same, in rounds of their own
    best, _ = fastest((rival("int8"), rival("float")), (wide, other), differs=alike)
    assert best == 0


def test_a_rival_that_answers_5_inputs_otherwise_is_passed_over_for_the_next() -> None:
    def differs(each: Rival) -> str:
        return "answers 5 of 3000 otherwise" if each.engine is OTHER and each.arithmetic == "int8" else ""

    times_ms = [(each,) * 400 for each in (3.0, 2.0, 1.0, 1.5)]
    assert fastest(FOUR, times_ms, differs=differs) == (3, {2: "answers 5 of 3000 otherwise"})
    assert fastest(FOUR[:3], times_ms[:3], differs=differs) == (1, {2: "answers 5 of 3000 otherwise"})


def test_only_the_1_rival_that_would_win_is_asked_for_its_answers() -> None:
    asked: list[str] = []

    def differs(each: Rival) -> str:
        asked.append(each.arithmetic)
        return ""

    fastest(
        (rival("int8"), rival("float"), rival("int8", OTHER)),
        [(2.0,) * 400, (3.0,) * 400, (1.0,) * 400],
        differs=differs,
    )
    assert asked == ["int8"]


def test_rounds_that_are_slowed_by_up_to_10_times_leave_a_ratio_of_2_within_5_percent() -> None:
    draw = np.random.default_rng(0)
    slowed = draw.uniform(1, 10, size=400)  # whole rounds
    one, other = (base * slowed * draw.normal(1, 0.05, size=400) for base in (2.0, 1.0))
    bounds = ratio_interval(one.tolist(), other.tolist())
    assert 1.95 < bounds.low < 2 < bounds.high < 2.05
    unpaired = Pairs(tuple(one.tolist()), tuple(other.tolist())).speedup_interval()
    assert unpaired.high - unpaired.low > 5 * (bounds.high - bounds.low)
