"""A finished run made by hand: real engines of a tiny network, and measurements that are written here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.candidate import Candidate, Form
from pipeline.data.dataset import Dataset, Split, inputs_for_network
from pipeline.data.preprocess import Preprocess
from pipeline.journey import Journey, StageResult
from pipeline.models.convnet import ConvNet
from pipeline.plan import Plan
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.teach import Teacher
from targets.budget import Budget, Limit
from targets.devices.x86_cpu import TARGET
from targets.engines.ort import OnnxRuntime
from targets.measurement import Accuracy, Conditions, Latency, Measurement, Pairs
from targets.reach.local import conditions_here, is_x86
from targets.verdict import verdicts_on

LABELS = ("red", "<b>green</b>", "blau | ü")
PREPROCESS = Preprocess(channels=3, height=8, width=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
BUDGET = Budget(
    (
        Limit("max_latency_ms", 5.0, "command line"),
        Limit("min_speedup", 1.5, "recipe by-hand"),
        Limit("max_accuracy_drop_points", 1.0, "target x86-cpu"),
    )
)


@dataclass(frozen=True)
class Finished:
    """Everything that `write_bundle` takes."""

    plan: Plan
    journey: Journey
    dataset: Dataset


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    """A run of teacher, quantize, export and build that met two limits and left one undecided."""
    if not is_x86():
        pytest.skip("an x86 processor is missing: the engines of these tests are built for one")
    dataset = pictures()
    return Finished(plan_at(tmp_path / "out here"), journey_in(tmp_path / "out here" / "work", dataset), dataset)


@pytest.fixture
def with_journey(finished: Finished) -> Callable[..., Finished]:
    """The same run with other fields of the journey."""

    def changed(**fields: Any) -> Finished:
        return replace(finished, journey=replace(finished.journey, **fields))

    return changed


def plan_at(out: Path) -> Plan:
    recipe = Recipe(
        name="by-hand",
        data=partial(unread, folder="/home/somebody/pictures"),
        teacher=Teacher(ConvNet, weights="/home/somebody/teacher.pt"),
        stages=(Export(), Build()),
        budget=BUDGET,
    )
    return Plan(recipe=recipe, target=TARGET, budget=BUDGET, out=out, seed=7)


def unread(folder: Path | None, *, cache: Path) -> Dataset:
    raise AssertionError("the bundle has the data already")


def pictures() -> Dataset:
    """Noise that is brighter in one channel: its class."""
    random = np.random.default_rng(0)
    splits = []
    for number, (name, count) in enumerate((("train", 30), ("validation", 30), ("test", 40))):
        labels = np.arange(count) % 3
        inputs = random.integers(0, 120, (count, 3, 8, 8))
        inputs[np.arange(count), labels] += 100
        indices = 1000 * number + np.arange(count)
        splits.append(Split(name, inputs.astype(np.uint8), labels.astype(np.int64), indices))
    return Dataset("noise", *splits, labels=LABELS, preprocess=PREPROCESS)


def colour_network(path: Path, *, integer: bool) -> None:
    """Conv, ReLU, global pooling, Gemm; `integer` puts a quantizer before and after the convolution."""
    random = np.random.default_rng(1)
    kernel = random.integers(-60, 60, (8, 3, 3, 3)).astype(np.int8)
    constants = {
        "k": kernel if integer else kernel.astype(np.float32) * np.float32(0.02),
        "w": random.normal(size=(8, 3)).astype(np.float32),
        "b": np.zeros(3, np.float32),
    }
    nodes = []
    entry, exit_ = "image", "conv"
    if integer:
        scales = {"x_s": 0.02, "k_s": 0.02, "y_s": 0.05}
        constants |= {name: np.float32(scale) for name, scale in scales.items()}
        constants |= {"x_z": np.uint8(128), "k_z": np.int8(0), "y_z": np.uint8(0)}
        nodes += [
            helper.make_node("QuantizeLinear", ["image", "x_s", "x_z"], ["x_q"], "q_in"),
            helper.make_node("DequantizeLinear", ["x_q", "x_s", "x_z"], ["x"], "dq_in"),
            helper.make_node("DequantizeLinear", ["k", "k_s", "k_z"], ["kernel"], "dq_kernel"),
        ]
        entry = "x"
    weight = "kernel" if integer else "k"
    nodes += [
        helper.make_node("Conv", [entry, weight], ["conv"], "/home/conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", [exit_], ["relu"], "/relu"),
    ]
    pooled = "relu"
    if integer:
        nodes += [
            helper.make_node("QuantizeLinear", ["relu", "y_s", "y_z"], ["y_q"], "q_out"),
            helper.make_node("DequantizeLinear", ["y_q", "y_s", "y_z"], ["y"], "dq_out"),
        ]
        pooled = "y"
    nodes += [
        helper.make_node("GlobalAveragePool", [pooled], ["pool"], "/pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "/flat"),
        helper.make_node("Gemm", ["flat", "w", "b"], ["scores"], "/head"),
    ]
    graph = helper.make_graph(
        nodes, "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def journey_in(work: Path, dataset: Dataset) -> Journey:
    work.mkdir(parents=True)
    model, engine = work / "model.onnx", work / "engine.engine.onnx"
    colour_network(model, integer=True)
    OnnxRuntime().build(model, engine, threads=1)
    operators = OnnxRuntime().operators(engine)
    weights = work / "weights.safetensors"
    weights.write_bytes(b"x" * 4000)
    placement = {
        "activations": {"x": False},
        "repeats": {},
        "weights": ["conv"],
        "kept_float": {"head": "the last <i>"},
    }
    quantize_facts = {
        "placement": placement, "scheme": {"weight_bits": 7, "why": "no VNNI"},
        "validation_score_untrained": 0.9, "validation_score": 0.95,
    }  # fmt: skip
    build_facts = {
        "runtime": OnnxRuntime().runtime,
        "operators": {"integer": operators.integer, "floating": operators.floating, "rows": []},
    }
    teacher = Candidate("teacher", Form.TORCH, "d0", weights, None, {"origin": f"read from {work}"}, ConvNet)
    quantize = Candidate("quantize", Form.TORCH, "d1", weights, teacher, quantize_facts, ConvNet)
    export = Candidate("export", Form.ONNX, "d2", model, quantize)
    build = Candidate("build", Form.ENGINE, "d3", engine, export, build_facts)
    inputs = inputs_for_network(dataset, dataset.test.inputs)
    assert inputs.shape == (40, 3, 8, 8)
    right = (1.0,) * 36 + (0.0,) * 4
    measured = [
        measurement((1.0,) * 38 + (0.0,) * 2, 0.9, first=True), measurement(right, 0.6), measurement(right, 0.6),
        measurement(right, 0.3),
    ]  # fmt: skip
    rows = tuple(
        StageResult(candidate, place == 1, 2.5 * place, each)
        for place, (candidate, each) in enumerate(zip((teacher, quantize, export, build), measured, strict=True))
    )
    return Journey(rows, verdicts_on(measured[-1], budget=BUDGET, teacher=measured[0].accuracy))


def conditions() -> Conditions:
    return conditions_here(
        target="x86-cpu", runtime=OnnxRuntime().runtime, threads=1, batch=1, warmup_runs=20, samples=300, on_target=True
    )


def measurement(scores: tuple[float, ...], latency_ms: float, *, first: bool = False) -> Measurement:
    """300 samples around `latency_ms` and pairs with a teacher of 0.9 ms; the teacher itself has none."""
    random = np.random.default_rng(2)
    ours = tuple(latency_ms * (1 + random.gamma(1.5, 0.05, 300)))
    theirs = tuple(0.9 * (1 + random.gamma(1.5, 0.05, 300)))
    missing = {"peak_memory_bytes": "no process could be started"}
    if first:
        missing["pairs"] = "the teacher is not compared with itself"
    return Measurement(
        conditions=conditions(), accuracy=Accuracy(scores), latency=Latency(ours, conditions()),
        pairs=None if first else Pairs(theirs, ours), parameters=243, macs=13848, size_bytes=4000,
        missing=missing,
    )  # fmt: skip
