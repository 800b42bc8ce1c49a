"""Best-of on a device's GPU: INT8 and FP16, weakly and strongly typed, through the stand-in for trtexec; and CUDA."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import pipeline.stages.build
from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset
from pipeline.errors import StageFailed
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.report_engine import rivals as rivals_section
from pipeline.stage import Run
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.gpu_rivals import with_sparse_kernels
from pipeline.stages.quantize import Quantize
from pipeline.stages.rivals import Rival, timed
from pipeline.stages.same_answers import Parity, torch_origin
from targets.find import target_named
from targets.target import Target

network = partial(ResNetCifar, 8, width=8, classes=4)
TRT_10, TRT_11 = ({"tensorrt": {"version": version}} for version in ("10.3.0", "11.4.1"))
QUICK = {"warm_up_ms": 0, "seconds": 0.01, "processes": 1, "with": "trtexec"}
EXACT = Build(0.999, further_engines=False)


@pytest.fixture
def journey(
    run_in: Callable[..., Run], candidate_in: Callable[..., Candidate], tiny_data: Callable[..., Dataset],
    tmp_path: Path,
) -> Callable[[Target], tuple[Candidate, Run]]:  # fmt: skip
    """For a target, the ONNX of a quantized child and the run of its build; few inputs, for each may be a process."""

    def made(target: Target) -> tuple[Candidate, Run]:
        data = tiny_data((3, 8, 8), counts=(64, 3, 2))
        teacher = candidate_in(tmp_path / "teacher", network, data)

        def run(name: str) -> Run:
            return run_in(tmp_path / name, dataset=data, target=target, teacher=teacher)

        child = Quantize(training=None)(teacher, run("quantize"))
        return Export(0.0)(child, run("export")), run("build")

    return made


def names(built: Candidate) -> list[tuple[str, str, bool]]:
    return [(row["name"], row["form"], row["shipped"]) for row in built.facts["rivals"]]


def test_of_3_engines_of_tensorrt_10_the_strongly_typed_one_that_takes_half_as_long_is_handed_over(
    journey: Callable[..., Any], in_this_process: Callable[..., Any]
) -> None:
    device = in_this_process(**TRT_10)
    device.trtexec(strong_ratio=0.5)
    model, run = journey(target_named("jetson-orin").through(device, settings=QUICK))
    built = EXACT(model, run)
    assert names(built) == [("int8", "", False), ("float", "", False), ("int8", "strongly typed", True)]
    flags = [
        {"--int8", "--fp16", "--stronglyTyped", "--sparsity=enable"} & set(line.split()) for line in device.builds()
    ]
    assert flags == [{"--int8", "--fp16"}, {"--fp16"}, {"--stronglyTyped"}]
    (measured,) = (job for what, job in device.asked if what == "measure")
    kinds = [measured["inputs_of"][name][0]["dtype"] for name in measured["engines"]]
    assert kinds == ["float32", "float32", "float16"]  # each is asked in the numbers that it takes
    assert built.facts["mixed"] == []  # a processor's kernels are no matter of this one
    assert built.facts["refused"] == []
    assert built.facts["built"]["settings"]["typed"] == "strong"
    assert built.facts["built"]["timing_cache"].startswith("kernels-")
    assert built.facts["sparsity"] == {"products": 7, "structured": 0, "asked_for": False}
    # On a board a quarter of the memory that is free now, and at least 64 MiB.
    workspace_mb = built.facts["built"]["workspace_mb"]
    assert f"--memPoolSize=workspace:{workspace_mb}" in device.builds()[-1].split()
    assert workspace_mb >= 64
    forms = [row["to_form"] for row in built.facts["hops"]]
    assert forms == ["fake-quantized torch", "ONNX", "engine here", "engine on the device"]
    assert built.facts["hops"][0]["from_form"] == "torch FP32"
    assert all(0 <= row["to_score"] <= 1 for row in built.facts["hops"])


def test_an_int8_engine_of_3_ms_is_never_handed_over_where_fp16_takes_2_and_a_refused_rival_is_told_of(
    journey: Callable[..., Any], in_this_process: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = in_this_process(**TRT_10)
    device.trtexec(median_ms={"int8": 3.0, "fp16": 2.0, "fp32": 4.0})
    through = device.job

    def refuses(what: str, job: Any, **more: Any) -> Any:
        if job["settings"].get("typed") == "strong" and what == "build":
            device.trtexec(build_fails="Error Code 9: no kernel for a float16 scale")
        return through(what, job, **more)

    model, run = journey(target_named("jetson-orin").through(device, settings=QUICK))

    def times(rivals: Sequence[Rival], asked: Run) -> Any:
        device.trtexec(median_ms={"int8": 3.0, "fp16": 2.0, "fp32": 4.0})
        return timed(rivals, asked)

    monkeypatch.setattr(pipeline.stages.build, "timed", times)
    monkeypatch.setattr(device, "job", refuses)
    built = EXACT(model, run)
    assert names(built) == [("int8", "", False), ("float", "", True)]
    (refused,) = built.facts["refused"]
    assert (refused["form"], refused["runtime"]) == ("strongly typed", "tensorrt 10.3.0")
    assert "no kernel for a float16 scale" in refused["why"]
    section = rivals_section({"stages": [{"facts": built.facts}]})
    assert section is not None
    assert "no kernel for a float16 scale" in str(section.parts)


def test_tensorrt_11_has_2_engines_both_from_float16_files_without_a_flag(
    journey: Callable[..., Any], in_this_process: Callable[..., Any]
) -> None:
    device = in_this_process(**TRT_11)
    device.trtexec(tensorrt="11.4.1")
    model, run = journey(target_named("jetson-orin").through(device, settings=QUICK))
    built = EXACT(model, run)
    assert names(built) == [("int8", "", True), ("float", "", False)]
    assert not [line for line in device.builds() if "--int8" in line or "--fp16" in line or "--stronglyTyped" in line]
    for file in ("lowered.onnx", "float-lowered.onnx"):
        kind = onnx.load(run.folder / file).graph.input[0].type.tensor_type.elem_type
        assert kind == TensorProto.FLOAT16


def test_an_engine_that_answers_2_of_2_otherwise_fails_with_the_name_of_the_quantizer_where_it_starts(
    journey: Callable[..., Any], in_this_process: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = in_this_process(**TRT_10)
    device.trtexec()
    model, run = journey(target_named("jetson-orin").through(device, settings=QUICK))
    through, broken = device.job, list[str]()

    def breaks(what: str, job: Any, *, files: Any, **more: Any) -> Any:
        if what == "build":  # the builder takes another weight for the fourth convolution, and says nothing
            damaged = onnx.load(files["model.onnx"])
            convolutions = [node for node in damaged.graph.node if node.op_type == "Conv"]
            makers = {name: node for node in damaged.graph.node for name in node.output}
            weight = makers[convolutions[3].input[1]].input[0]
            for constant in damaged.graph.initializer:
                if constant.name == weight:
                    constant.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(constant), weight))
            broken.append(convolutions[3].name)
            onnx.save(damaged, run.folder / "damaged.onnx")
            files = {"model.onnx": run.folder / "damaged.onnx"}
        return through(what, job, files=files, **more)

    monkeypatch.setattr(device, "job", breaks)
    monkeypatch.setattr("pipeline.stages.same_answers.EXAMINED", 2)
    strict = Build(1.0, further_engines=False)
    monkeypatch.setattr("pipeline.graph.compare.TIE", 0.0)
    monkeypatch.setattr("pipeline.stages.same_answers.unequal_allowed", lambda *_, **__: -1)  # whatever differs fails
    with pytest.raises(StageFailed, match="first in ") as raised:
        strict(model, run)
    lowered = onnx.load(run.folder / "lowered.onnx")
    named = str(raised.value).split("first in ")[1].split(", where")[0]
    order = [node.name or node.output[0] for node in lowered.graph.node]
    assert order.index(named) > order.index(broken[0])
    between = order[order.index(broken[0]) + 1 : order.index(named)]
    kinds = {node.name or node.output[0]: node.op_type for node in lowered.graph.node}
    behind = [each for each in between if kinds[each] == "DequantizeLinear" and "weight" not in each]
    assert len(behind) <= 1  # the one of the next weight at most: it is the first quantizer behind the broken layer


def test_onnx_runtime_on_cuda_has_3_rivals_and_its_session_stands_in_the_facts(
    journey: Callable[..., Any], in_this_process: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    import onnxruntime

    device = in_this_process(
        onnxruntime={"version": onnxruntime.__version__, "providers": providers}, tensorrt={"version": None}
    )
    target = target_named("jetson-orin").through(device)
    assert "ONNX Runtime with CUDA, for it has no TensorRT" in target.summary

    def times(rivals: Sequence[Rival], _run: Run) -> tuple[tuple[float, ...], ...]:
        assert len(rivals) == 3
        return (3.0,) * 400, (2.0,) * 400, (1.0,) * 400

    monkeypatch.setattr(pipeline.stages.build, "timed", times)
    monkeypatch.setattr("pipeline.stages.rivals.Rival.layer_times", lambda *_, **__: ())
    model, run = journey(target)
    built = EXACT(model, run)
    assert names(built) == [("int8", "", False), ("float", "", False), ("float", "float16", True)]
    assert {job["settings"]["provider"] for _, job in device.asked} == {"cuda"}
    assert built.facts["built"]["session"]["threads"] == 1
    half = onnx.load(run.folder / "float-float16.onnx")
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    assert json.dumps(built.facts["built"])
    assert np.isfinite(built.facts["agreement"]["largest"])


def test_sparse_kernels_are_asked_for_where_7_of_7_products_have_the_structure(
    journey: Callable[..., Any], in_this_process: Callable[..., Any], tmp_path: Path
) -> None:
    device = in_this_process(**TRT_10)
    device.trtexec()
    model, run = journey(target_named("jetson-orin").through(device, settings=QUICK))
    thin = onnx.load(model.path)
    for constant in thin.graph.initializer:
        weight = numpy_helper.to_array(constant)
        if weight.ndim in (2, 4) and weight.shape[1] % 4 == 0:
            weight = weight.copy()
            weight[:, 0::4], weight[:, 1::4] = 0, 0
            constant.CopyFrom(numpy_helper.from_array(weight, constant.name))
    onnx.save(thin, tmp_path / "thin.onnx")
    sparse, told = with_sparse_kernels(run, tmp_path / "thin.onnx")
    assert told == {"products": 7, "structured": 7, "asked_for": True}
    sparse.target.engine.build(tmp_path / "thin.onnx", tmp_path / "thin.plan", threads=1)
    assert "--sparsity=enable" in device.builds()[-1].split()
    dense, told = with_sparse_kernels(run, model.path)
    assert dense is run
    assert told == {"products": 7, "structured": 0, "asked_for": False}


class Told:
    """Answers that are these, as an engine on a GPU would give them."""

    def __init__(self, answers: np.ndarray) -> None:
        self.left = iter(answers)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return np.stack([next(self.left) for _ in inputs])

    def close(self) -> None:
        """Nothing is held."""


def test_an_engine_may_be_off_by_2_times_what_half_precision_is_and_no_more(
    journey: Callable[..., Any], in_this_process: Callable[..., Any], tiny_data: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    target = target_named("jetson-orin").through(in_this_process(**TRT_10))
    model, run = journey(target)
    run = replace(run, dataset=tiny_data((3, 8, 8), counts=(8, 8, 50)))
    origin, split = torch_origin(model), run.dataset.test
    draw = np.random.default_rng(0)
    exact = draw.normal(size=(50, 4))
    noise = 0.5 * draw.normal(size=(50, 4))  # as large as no half precision is: the strict rule would refuse it
    monkeypatch.setattr("pipeline.stages.same_answers.in_half_precision", lambda *_: exact + noise)
    monkeypatch.setattr("pipeline.stages.same_answers.Parity._right_in_integers", lambda *_: False)
    rival = Rival("int8", target.engine, Path("engine.plan"), origin, (("ONNX", model.path), ("ONNX", model.path)))

    def fails(answers: np.ndarray) -> bool:
        monkeypatch.setattr("targets.engines.elsewhere.Elsewhere.open", lambda *_, **__: Told(answers))
        parity = Parity(run, 1.0, {("float64", origin.digest, "test"): exact})
        return parity.fails(parity.on(split, rival))

    turned = exact - 1.9 * noise
    assert (turned.argmax(1) != exact.argmax(1)).sum() >= 2  # one may always differ
    assert not fails(turned)
    assert fails(exact[:, ::-1])  # every class is another one
