"""Layers that are slower in integers are computed in float on the same grid; what the clock says is written here."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

import pipeline.stages.build
import pipeline.stages.mixed_kernels
from pipeline.candidate import Candidate
from pipeline.data.dataset import Split
from pipeline.graph.compare import Agreement
from pipeline.manifest import onnx_file
from pipeline.measure import measure
from pipeline.quantization.float_kernels import quantized_products
from pipeline.quantization.kernel_choice import layers_of_operators
from pipeline.report_blocks import Table
from pipeline.report_engine import rivals
from pipeline.stage import Run
from pipeline.stages.build import Build
from pipeline.stages.rivals import MIXED, Rival
from pipeline.stages.same_answers import Parity, torch_origin
from targets.engines.ort import OnnxRuntime
from targets.runner import LayerTime, Operators

Exported = tuple[Candidate, Candidate, Run]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says what each layer takes in integers, in float 1 ms; and what each engine takes in turns, by its float layers.

    A conversion takes no time.
    """

    def say(*integer_ms: float, engines_ms: dict[str, float]) -> None:
        def layer_times(rival: Rival, _inputs: Any, *, threads: int) -> tuple[LayerTime, ...]:
            layer_of = layers_of_operators(onnx.load(rival.files[-1][1]))
            found: Operators = rival.engine.operators(rival.path)
            rows = [row for row in found.rows if layer_of(row.name) is not None]
            taken = iter(integer_ms)
            return tuple(
                LayerTime(row.name, row.kind, row.integer, next(taken) if row.integer else 1.0) for row in rows
            )

        def in_turns(entries: Sequence[tuple[OnnxRuntime, Path]], **_: Any) -> tuple[tuple[float, ...], ...]:
            counts = [engine.operators(path) for engine, path in entries]
            names = ["float" if not each.integer else f"{each.floating - 1}" for each in counts]  # the last is always
            return tuple((engines_ms[name],) * 400 for name in names)

        monkeypatch.setattr(Rival, "layer_times", layer_times)
        monkeypatch.setattr(pipeline.stages.mixed_kernels, "timed_in_turns", in_turns)
        monkeypatch.setattr(
            pipeline.stages.build,
            "timed",
            lambda entries, _run: in_turns([(each.engine, each.path) for each in entries]),
        )

    return say


def test_2_layers_that_are_slower_in_integers_are_handed_over_in_float_kernels(
    exported: Exported, clock: Callable[..., None]
) -> None:
    _, model, run = exported
    clock(3.0, 0.5, 2.0, 0.5, 0.5, 0.5, 0.5, engines_ms={"0": 5.0, "float": 6.0, "1": 4.5, "2": 4.0})
    built = Build(0.0, further_engines=False)(model, run)
    assert built.path.name == "mixed.engine.onnx"
    operators = OnnxRuntime().operators(built.path)
    assert (operators.integer, operators.floating) == (5, 3)
    int8, floating, mixed = built.facts["rivals"]
    assert [each["name"] for each in (int8, floating, mixed)] == ["int8", "float", "mixed"]
    assert [each["shipped"] for each in (int8, floating, mixed)] == [False, False, True]
    assert mixed["speedup"] == 1.5
    layers = quantized_products(onnx.load(run.folder / "lowered.onnx"))
    assert [cost["layer"] for cost in mixed["kernels"]] == [layers[0], layers[2]]
    assert list(built.facts["why_float"].values()) == [
        "its integer kernel is slower here: 3.000 ms, and 1.000 ms in float",
        "its integer kernel is slower here: 2.000 ms, and 1.000 ms in float",
    ]
    names = [row.name for row in operators.rows if not row.integer]
    assert names[:2] == list(built.facts["why_float"])  # the third layer in float is the last, which was kept so
    (tried,) = built.facts["mixed"]
    assert tried["tried"] == [{"layers": 2, "times_as_fast": 1.25}, {"layers": 1, "times_as_fast": 5 / 4.5}]
    assert onnx_file(built) == model.path
    measured = measure(built, replace(run, teacher=torch_origin(built)), teacher=None).measurement
    assert measured.conditions is not None
    section = rivals({"stages": [{"facts": built.facts}]})
    assert section is not None
    (table,) = [each for each in section.parts if isinstance(each, Table) and "float kernel" in str(each.head[0])]
    assert len(table.rows) == 2


def test_a_mix_of_5_ms_beside_float_of_4_is_no_rival_but_is_told_of(
    exported: Exported, clock: Callable[..., None]
) -> None:
    _, model, run = exported
    clock(3.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, engines_ms={"0": 6.0, "float": 4.0, "1": 5.0})
    built = Build(0.0, further_engines=False)(model, run)
    assert [(each["name"], each["shipped"]) for each in built.facts["rivals"]] == [("int8", False), ("float", True)]
    assert built.facts["mixed"][0]["tried"] == [{"layers": 1, "times_as_fast": 1.2}]
    assert built.facts["why_float"] == {}


def test_where_0_layers_are_slower_in_integers_nothing_is_built(
    exported: Exported, clock: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model, run = exported
    clock(*[0.99] * 7, engines_ms={"0": 5.0, "float": 6.0})
    monkeypatch.setattr(pipeline.stages.mixed_kernels, "with_float_kernels", None)
    built = Build(0.0, further_engines=False)(model, run)
    assert [each["name"] for each in built.facts["rivals"]] == ["int8", "float"]
    assert built.facts["mixed"] == []


def test_layers_that_gain_1_percent_are_left_alone(exported: Exported, clock: Callable[..., None]) -> None:
    _, model, run = exported
    clock(1.06, *[0.9] * 6, engines_ms={"0": 5.0, "float": 6.0})  # 0.06 of 6.46 ms
    assert Build(0.0, further_engines=False)(model, run).facts["mixed"] == []


def test_a_mix_that_answers_5_inputs_otherwise_is_not_handed_over(
    exported: Exported, clock: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model, run = exported
    clock(3.0, *[0.5] * 6, engines_ms={"0": 5.0, "float": 6.0, "1": 4.0})
    on = Parity.on

    def worse(parity: Parity, split: Split, rival: Rival) -> Agreement:
        return replace(on(parity, split, rival), clearly_unequal=5 if rival.arithmetic == MIXED else 0)

    monkeypatch.setattr(Parity, "on", worse)
    built = Build(further_engines=False)(model, run)
    assert [each["shipped"] for each in built.facts["rivals"]] == [True, False, False]
    assert built.facts["rivals"][2]["why_not"].startswith("answers 5 of ")
    assert built.facts["why_float"] == {}
