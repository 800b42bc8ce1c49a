"""What the tests of the lowerings, the validators and the integer reference share.

Small calibrated networks as canonical integer graphs, how to find and change a part of one, ONNX Runtime's answers, and
the way of a network to its engine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset, inputs_for_network
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.insert import point_name, quantized, watched
from pipeline.stage import Run
from pipeline.stages.build import Build
from pipeline.stages.export import Export, onnx_of
from pipeline.stages.quantize import Quantize
from targets.target import Scheme

SHAPE = (3, 12, 12)


class Mixed(nn.Module):
    """A depthwise convolution, a signed residual sum, poolings, a concat, a ReLU6 and a linear layer in integers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.wide, self.dilated = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 3, padding=2, dilation=2, bias=False)
        self.relu, self.relu6, self.most, self.mean = nn.ReLU(), nn.ReLU6(), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(2)
        self.hidden, self.last = nn.Linear(8 * 9, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.most(self.relu(self.stem(x)))
        x = x + self.wide(self.relu6(self.deep(x)))  # signed: no ReLU behind it
        x = torch.cat([self.dilated(x), self.relu(self.dilated(self.most(x)))], 1)
        return self.last(self.relu(self.hidden(torch.flatten(self.mean(x), 1))))  # type: ignore[no-any-return]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mixed": Mixed,
    "option A": partial(ResNetCifar, 8, width=8, classes=4, shortcut="A"),  # zeros are padded in
    "option B": partial(ResNetCifar, 8, width=8, classes=4, shortcut="B"),  # sums of two convolutions
}


def asked(size: float, *, seed: int = 5) -> np.ndarray:
    """One input; networks are calibrated to size 1, and 100 saturates every tensor."""
    return (size * np.random.default_rng(seed).normal(size=(1, *SHAPE))).astype(np.float32)


@pytest.fixture(scope="session")
def inputs_of() -> Callable[..., np.ndarray]:
    """Makes one input of a size: `inputs_of(100.0)`."""
    return asked


@pytest.fixture(scope="session", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> str:
    """The name of each network in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def canonical_of() -> Callable[..., onnx.ModelProto]:
    """Makes the canonical graph of a network: random weights, ranges as seen on 8 inputs, biases on their grid.

    without: the beginning of the names of quantizers that are left out
    """

    @cache
    def make(name: str, scheme: Scheme, without: tuple[str, ...] = ()) -> onnx.ModelProto:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            module = NETWORKS[name]().eval()
            for layer in module.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    nn.init.uniform_(layer.weight, 0.5, 2.0)
                    nn.init.normal_(layer.bias)
        graph, placement = watched(module)
        for producer in list(placement.activations):
            if any(part in producer for part in without):
                del placement.activations[producer]
        amax: dict[str, float] = {}
        handles = [
            graph.get_submodule(point_name(producer)).register_forward_hook(
                lambda _module, _inputs, output, producer=producer: amax.update(
                    {producer: max(amax.get(producer, 0.0), float(output.abs().max()))}
                )
            )
            for producer in placement.activations
        ]
        with torch.no_grad():
            for seed in range(8):
                graph(torch.from_numpy(asked(1.0, seed=seed)))
        for handle in handles:
            handle.remove()
        student = quantized(graph, placement, amax=amax, scheme=scheme)
        biases_on_grid(student)
        return onnx_of(student, input_shape=SHAPE)

    return make


def found(model: onnx.ModelProto, kind: str, place: int = 0) -> onnx.NodeProto:
    nodes: list[onnx.NodeProto] = [node for node in model.graph.node if node.op_type == kind]
    return nodes[place]


@pytest.fixture(scope="session")
def node_of() -> Callable[..., onnx.NodeProto]:
    """Finds one of the nodes of a kind: `node_of(model, "Gemm", -1)` is the last one."""
    return found


@pytest.fixture(scope="session")
def weight_of() -> Callable[[onnx.ModelProto], onnx.NodeProto]:
    """Finds the DequantizeLinear of the first convolution's weight."""

    def find(model: onnx.ModelProto) -> onnx.NodeProto:
        read = found(model, "Conv").input[1]
        maker: onnx.NodeProto = next(node for node in model.graph.node if read in node.output)
        return maker

    return find


@pytest.fixture(scope="session")
def changed() -> Callable[..., onnx.ModelProto]:
    """Replaces one constant, in place."""

    def change(model: onnx.ModelProto, name: str, value: np.ndarray | np.generic) -> onnx.ModelProto:
        constant = next(each for each in model.graph.initializer if each.name == name)
        constant.CopyFrom(numpy_helper.from_array(np.asarray(value), name))
        return model

    return change


@pytest.fixture(scope="session")
def answered() -> Callable[..., np.ndarray]:
    """The first output by ONNX Runtime, with every optimisation or, `as_written`, with none."""

    def answer(model: onnx.ModelProto, inputs: dict[str, np.ndarray], *, as_written: bool = False) -> np.ndarray:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        if as_written:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, inputs)[0])

    return answer


@dataclass(frozen=True)
class Way:
    """A network quantized, exported and built; what each form answers to `inputs`."""

    quantized: Candidate
    exported: Candidate
    built: Candidate
    inputs: np.ndarray
    whole: np.ndarray
    fake: np.ndarray
    engine: np.ndarray


@pytest.fixture
def way_of(
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset],
    tmp_path: Path,
) -> Callable[..., Way]:
    """Takes a network with random weights all the way; whether the answers are good enough is asked by the test."""

    def make(network: Callable[[], nn.Module], *, data: Dataset | None = None, keep_float: tuple[str, ...] = ()) -> Way:
        if not run_in(tmp_path).target.is_here():
            pytest.skip("an x86 processor is missing")
        data = data or tiny_data()
        teacher = candidate_in(tmp_path / "t", network, data)
        runs = {each: run_in(tmp_path / each, dataset=data, teacher=teacher) for each in ("q", "e", "b")}
        student = Quantize(training=None, samples=32, keep_float=keep_float)(teacher, runs["q"])
        exported = Export(0.0)(student, runs["e"])
        built = Build(0.0, best_of=False)(exported, runs["b"])
        inputs = inputs_for_network(data, data.train.inputs)
        with torch.inference_mode():
            whole, fake = (each.module()(torch.from_numpy(inputs)).numpy() for each in (teacher, student))
        runner = runs["b"].target.engine.open(built.path, threads=1)
        engine = runner(inputs)
        runner.close()
        return Way(student, exported, built, inputs, whole, fake, engine)

    return make
