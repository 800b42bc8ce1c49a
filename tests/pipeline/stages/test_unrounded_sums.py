"""What an engine that adds before it rounds is compared with: the student without the quantizers that fall away."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pipeline.candidate import Candidate
from pipeline.data.dataset import inputs_for_network
from pipeline.graph.first_difference import points_of
from pipeline.quantization.unrounded_sums import dropped_places
from pipeline.stage import Run
from pipeline.stages.build import Build
from pipeline.stages.export import answers_of_onnx
from pipeline.stages.rivals import FLOAT, INT8, Rival, with_sums_unrounded
from pipeline.stages.same_answers import torch_origin
from targets.engines.openvino import OpenVino

Exported = tuple[Candidate, Candidate, Run]


def rival_of(exported: Exported) -> Rival:
    _, model, run = exported
    files = (("export: ONNX", model.path), ("lowered ONNX", model.path))
    return Rival(INT8, OpenVino(), run.folder / "int8.openvino", torch_origin(model), files)


def test_of_a_resnet_of_3_blocks_3_quantizers_fall_away_in_torch_and_in_the_file(exported: Exported) -> None:
    _, model, run = exported
    rival, canonical = rival_of(exported), onnx.load(model.path)
    other = with_sums_unrounded(rival, run)
    assert len(dropped_places(canonical)) == 3
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
    assert with_sums_unrounded(products, run) is products


def test_openvino_answers_32_test_inputs_like_the_network_with_3_roundings_less(exported: Exported) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'edge-compress[openvino]'")
    _, _, run = exported
    other = with_sums_unrounded(rival_of(exported), run)
    other.engine.build(other.files[-1][1], other.path, threads=1)
    inputs = inputs_for_network(run.dataset, run.dataset.validation.inputs)
    runner = other.engine.open(other.path, threads=1)
    answers = np.concatenate([runner(row[None]) for row in inputs])
    with torch.inference_mode():
        wanted = other.origin.module()(torch.from_numpy(inputs)).numpy()
    # A value on the edge between two codes may fall to either side, and move what follows: few inputs have one.
    assert (np.isclose(answers, wanted, rtol=1e-3, atol=1e-3).all(axis=1)).mean() > 0.9


def test_the_report_of_a_build_names_both_networks(exported: Exported) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'edge-compress[openvino]'")
    _, model, run = exported
    seen = Build(0.999)(model, run).facts["rivals"]
    assert [(row["name"], row["stage"]) for row in seen[:3:2]] == [
        (INT8, "quantize"),
        (INT8, "quantize, sums unrounded"),
    ]
    assert seen[1]["name"] == seen[3]["name"] == FLOAT
