"""What another runtime is given and compared with: the student without the quantizers that it does without."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from pipeline.candidate import Candidate
from pipeline.data.dataset import inputs_for_network
from pipeline.graph.first_difference import points_of
from pipeline.quantization.fewer_roundings import depthwise_on_floats, dropped_places
from pipeline.report_kernels import mixed_kernels
from pipeline.stage import Run
from pipeline.stages import further_engines
from pipeline.stages.build import Build
from pipeline.stages.export import answers_of_onnx
from pipeline.stages.further_engines import in_further_engines, without_quantizers
from pipeline.stages.rivals import FLOAT, INT8, Rival
from pipeline.stages.same_answers import torch_origin
from pipeline.stages.same_integers import Bridge
from targets.engines.nothing import Nothing
from targets.engines.openvino import OpenVino
from targets.runner import Place

Exported = tuple[Candidate, Candidate, Run]


def rival_of(exported: Exported) -> Rival:
    _, model, run = exported
    files = (("export: ONNX", model.path), ("lowered ONNX", model.path))
    return Rival(INT8, OpenVino(), run.folder / "int8.openvino", torch_origin(model), files)


def test_of_a_resnet_of_3_blocks_3_quantizers_fall_away_in_torch_and_in_the_file(exported: Exported) -> None:
    _, model, run = exported
    rival, canonical = rival_of(exported), onnx.load(model.path)
    other = without_quantizers(rival, [Place.SUM], run)
    ((kind, places),) = dropped_places(canonical, rival.origin.module(), list(Place)[:2]).items()
    assert (kind, len(places)) == (Place.SUM, 3)
    written = onnx.load(other.files[0][1])
    assert len(points_of(written)) == len(points_of(canonical)) - 3
    assert {node.name for node in written.graph.node if node.op_type == "Conv"} == {
        node.name for node in canonical.graph.node if node.op_type == "Conv"
    }
    inputs = inputs_for_network(run.dataset, run.dataset.validation.inputs)
    with torch.inference_mode():
        ours, before = (each.origin.module()(torch.from_numpy(inputs)).numpy() for each in (other, rival))
    # Float32 sums in another order, before quantizers: an answer may move by a step of the last layer's input.
    same = np.isclose(answers_of_onnx(other.files[0][1], inputs), ours, rtol=1e-3, atol=1e-3).all(axis=1)
    assert same.mean() > 0.9
    assert np.abs(ours - before).max() > 0  # one rounding less per block is another network


def test_a_network_without_sums_stays_the_same_rival(exported: Exported, tmp_path: Path) -> None:
    _, _, run = exported
    rival = rival_of(exported)
    model = onnx.load(rival.files[0][1])
    for node in model.graph.node:
        if node.op_type == "Add":
            node.op_type = "Mul"  # which nothing adds up
    onnx.save(model, tmp_path / "products.onnx")
    products = Rival(INT8, rival.engine, rival.path, rival.origin, (("ONNX", tmp_path / "products.onnx"),) * 2)
    assert without_quantizers(products, [Place.SUM], run) is products


def test_openvino_answers_32_test_inputs_like_the_network_with_3_roundings_less(exported: Exported) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'edge-compress[openvino]'")
    _, _, run = exported
    other = without_quantizers(rival_of(exported), [Place.SUM], run)
    other.engine.build(other.files[-1][1], other.path, threads=1)
    inputs = inputs_for_network(run.dataset, run.dataset.validation.inputs)
    runner = other.engine.open(other.path, threads=1)
    answers = np.concatenate([runner(row[None]) for row in inputs])
    with torch.inference_mode():
        wanted = other.origin.module()(torch.from_numpy(inputs)).numpy()
    # A value on the edge between two codes may fall to either side, and move what follows: few inputs have one.
    assert (np.isclose(answers, wanted, rtol=1e-3, atol=1e-3).all(axis=1)).mean() > 0.9


@pytest.mark.parametrize("wrong", [0, 1, 2], ids=["as it is", "an answer beside its layers", "a layer beside integers"])
def test_an_engine_of_openvino_is_settled_layer_by_layer(wrong: int, exported: Exported, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'edge-compress[openvino]'")
    run = exported[2]
    other = without_quantizers(rival_of(exported), OpenVino().joined, run)
    (_, source), (_, lowered) = other.files
    file = lowered
    if wrong == 2:
        model, file = onnx.load(lowered), tmp_path / "wrong.onnx"
        layer = [node for node in model.graph.node if node.op_type == "Conv"][2]
        bias = next(each for each in model.graph.initializer if each.name == layer.input[2])
        values = numpy_helper.to_array(bias)
        bias.CopyFrom(numpy_helper.from_array(values + np.abs(values).max() + 1, bias.name))
        onnx.save(model, file)
    other.engine.build(file, other.path, threads=1)
    inputs = inputs_for_network(run.dataset, run.dataset.test.inputs[:4])
    runner = other.engine.open(other.path, threads=1)
    answers = np.concatenate([runner(each[None]) for each in inputs])
    if wrong == 1:
        answers[3] += 0.01 * np.abs(answers[3]).max()
    bridge = Bridge(other.origin.module(), source, lowered)
    assert bridge.layer_that_differs(inputs) == ""
    assert bridge.layers_like(inputs, answers, built_from=file, engine=other.engine) is (wrong == 0)


def test_the_report_of_a_build_names_both_networks(exported: Exported) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'edge-compress[openvino]'")
    _, model, run = exported
    seen = Build(0.999)(model, run).facts["rivals"]
    assert [(row["name"], row["stage"]) for row in seen[:3:2]] == [
        (INT8, "quantize"),
        (INT8, "quantize, unrounded before residual sums"),
    ]
    assert seen[1]["name"] == seen[3]["name"] == FLOAT


def depthwise_network() -> nn.Module:
    """Three LeakyReLUs, a max pooling and an average pooling, and one depthwise convolution behind the first."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LeakyReLU(0.1),
        nn.Conv2d(8, 16, 1), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "fewer", "on_floats"),
    [
        ([Place.FUNCTION], 3, 0),
        ([Place.POOLING], 2, 0),
        ([Place.DEPTHWISE], 1, 1),
        (list(Place), 6, 1),
    ],
)
def test_of_7_quantizers_of_a_depthwise_network_those_of_each_kind_fall_away(
    export_of: Callable[..., Exported], kinds: list[Place], fewer: int, on_floats: int
) -> None:
    exported = export_of(depthwise_network)
    rival, run = rival_of(exported), exported[2]
    before = onnx.load(rival.files[0][1])
    other = without_quantizers(rival, kinds, run)
    written = onnx.load(other.files[0][1])
    assert set(other.unrounded) == set(kinds) - {Place.SUM}
    assert len(points_of(before)) - len(points_of(written)) == fewer
    assert len(depthwise_on_floats(written)) == on_floats
    inputs = inputs_for_network(run.dataset, run.dataset.validation.inputs)
    with torch.inference_mode():
        wanted = other.origin.module()(torch.from_numpy(inputs)).numpy()
    # Float32 sums in another order, before quantizers: an answer may move by a step of the last layer's input.
    same = np.isclose(answers_of_onnx(other.files[0][1], inputs), wanted, rtol=1e-3, atol=1e-3).all(axis=1)
    assert same.mean() > 0.9


def test_a_quantizer_before_max_pooling_alone_changes_no_answer(
    export_of: Callable[..., Exported],
) -> None:
    def network() -> nn.Module:
        body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()
        )
        return nn.Sequential(body, nn.Linear(body(torch.zeros(1, *shape)).shape[1], 4))

    shape = export_of(depthwise_network)[2].dataset.input_shape
    exported = export_of(network)
    rival, run = rival_of(exported), exported[2]
    other = without_quantizers(rival, [Place.POOLING], run)
    assert len(points_of(onnx.load(rival.files[0][1]))) - len(points_of(onnx.load(other.files[0][1]))) >= 1
    inputs = torch.from_numpy(inputs_for_network(run.dataset, run.dataset.validation.inputs))
    with torch.inference_mode():
        assert torch.equal(other.origin.module()(inputs), rival.origin.module()(inputs))


@dataclass(frozen=True)
class Elsewhere(Nothing):
    """A further runtime that could do without two kinds of quantizers."""

    name: str = "elsewhere"
    optional: tuple[Place, ...] = (Place.POOLING, Place.DEPTHWISE)


def test_of_2_kinds_left_out_on_trial_the_one_that_pays_stays_out(
    export_of: Callable[..., Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export_of(depthwise_network)
    run, engine = exported[2], Elsewhere()
    monkeypatch.setattr(type(run.target), "further_engines_here", lambda _: (engine,))

    def times(one: Rival, other: Rival, _run: Run) -> tuple[tuple[float, ...], ...]:
        return (1.0,) * 40, ((0.5,) if other.unrounded[-1] is Place.DEPTHWISE else (1.5,)) * 40

    monkeypatch.setattr(further_engines, "_timed", times)
    (found,), (told,) = in_further_engines([replace(rival_of(exported), engine=Nothing())], run)
    assert found.unrounded == (Place.DEPTHWISE,)
    assert found.path.name == f"int8{engine.suffix}"
    assert found.path.is_file()
    assert told["left_out"] == [
        {"before": "pooling", "times_as_fast": pytest.approx(1 / 1.5), "kept": False},
        {"before": "depthwise convolutions", "times_as_fast": 2.0, "kept": True},
    ]
    assert "unrounded before depthwise convolutions" in found.origin.stage
    assert "2.00\u202f× without those before depthwise convolutions, which were left out" in str(
        mixed_kernels([], [told])[0]
    )
