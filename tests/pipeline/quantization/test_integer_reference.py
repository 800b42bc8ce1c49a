"""The integer reference against ONNX Runtime, network by network, and what it proves: a lowering changes no tensor."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.integer_reference import Difference, differences, integers_of
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.quantized_graph import quantized_graph
from pipeline.stages.export import onnx_of
from targets.engines.ort import OnnxRuntime
from targets.reach.local import is_x86
from targets.target import Scheme

SEVEN = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="exact on every x86")
SYMMETRIC = Scheme(weight_bits=7, unsigned_activations=False, signed_zero_point=128, why="TensorRT's student, on x86")
SHAPE = (3, 12, 12)


class Signed(nn.Module):
    """A depthwise convolution, a signed residual sum, two poolings, a concat and a linear layer in integers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.wide, self.dilated = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 3, padding=2, dilation=2, bias=False)
        self.relu, self.most, self.mean = nn.ReLU(), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(2)
        self.hidden, self.last = nn.Linear(8 * 9, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = x + self.wide(self.relu(self.deep(x)))  # signed: no ReLU behind it
        x = torch.cat([self.dilated(x), self.relu(self.dilated(self.most(x)))], 1)
        return self.last(self.relu(self.hidden(torch.flatten(self.mean(x), 1))))  # type: ignore[no-any-return]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "signed": Signed,
    "option A": partial(ResNetCifar, 8, width=8, classes=4, shortcut="A"),  # zeros are padded in
    "option B": partial(ResNetCifar, 8, width=8, classes=4, shortcut="B"),
}


def exported(name: str, scheme: Scheme) -> onnx.ModelProto:
    """The canonical graph of a random network, calibrated to ranges that nothing was calibrated for."""
    random = np.random.default_rng(3)
    torch.manual_seed(3)
    network = NETWORKS[name]().eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2.0)
            nn.init.normal_(layer.bias)
    graph, placement = watched(network)
    amax = {producer: float(random.uniform(1, 3)) for producer in placement.activations}
    return onnx_of(quantized(graph, placement, amax=amax, scheme=scheme), input_shape=SHAPE)


def asked(size: float) -> np.ndarray:
    return (size * np.random.default_rng(5).normal(size=(1, *SHAPE))).astype(np.float32)


def cut_at(model: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    """The model up to the node that makes this tensor of codes, which it answers."""
    graph = quantized_graph(model)
    waiting, kept = [tensor], set()
    while waiting:
        node = graph.maker.get(waiting.pop())
        if node is not None and node.output[0] not in kept:
            kept.add(node.output[0])
            waiting.extend(node.input)
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.node[:], cut.graph.output[:]
    cut.graph.node.extend(node for node in graph.nodes if node.output[0] in kept)
    kind = graph.pair(graph.maker[tensor]).zero.dtype
    cut.graph.output.append(helper.make_tensor_value_info(tensor, helper.np_dtype_to_tensor_dtype(kind), None))
    return cut


def answered(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """By ONNX Runtime with every optimisation."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scheme", [SEVEN, SYMMETRIC], ids=["unsigned", "symmetric"])
def test_each_tensor_of_a_lowered_network_is_the_canonical_one_on_inputs_of_4_sizes(name: str, scheme: Scheme) -> None:
    canonical = exported(name, scheme)
    lowered = lowered_for(canonical, scheme)
    kinds = {each.data_type for each in canonical.graph.initializer}
    assert TensorProto.INT8 in kinds
    for size in (0.0, 0.1, 1.0, 100.0):  # zeros, small, as calibrated, and saturated on both sides
        values = integers_of(canonical, {"input": asked(size)})
        assert differences(canonical, lowered, {"input": asked(size)}) == ()
        if size == 100.0:
            codes = values[canonical.graph.node[0].output[0]]
            ends = np.iinfo(codes.dtype)
            assert ((codes == ends.min) | (codes == ends.max)).mean() > 0.9
    compared = [node for node in canonical.graph.node if node.op_type == "QuantizeLinear"]
    assert len(compared) > 9


def test_1_wrong_zero_point_is_found_at_the_first_tensor_that_differs() -> None:
    canonical = exported("option A", SEVEN)
    lowered = lowered_for(canonical, SEVEN)
    quantizers = [node for node in lowered.graph.node if node.op_type == "QuantizeLinear"]
    wrong = next(node for node in quantizers[1:] if node.input[2].endswith("zero_128"))
    constant = next(each for each in lowered.graph.initializer if each.name == wrong.input[2])
    constant.CopyFrom(numpy_helper.from_array(np.uint8(127), constant.name))
    found = differences(canonical, lowered, {"input": asked(1.0)})
    assert isinstance(found[0], Difference)
    assert found[0].tensor == wrong.output[0]
    assert found[0].largest == 1.0  # every code one step lower, read around 128
    assert 0.5 * found[0].of < found[0].elements < found[0].of  # those that saturate stay at the ends
    assert found[-1].tensor == "output"


def test_a_tensor_that_only_1_graph_quantizes_is_named() -> None:
    canonical = exported("option A", SEVEN)
    lowered = lowered_for(canonical, SEVEN)
    lowered.graph.node[-1].output[0] = "renamed"
    found = differences(canonical, lowered, {"input": asked(1.0)})
    assert [(each.tensor, each.largest) for each in found] == [("output", None)]


@pytest.mark.parametrize("name", NETWORKS)
def test_with_7_bits_each_tensor_of_onnx_runtime_is_the_integer_of_the_reference(name: str) -> None:
    lowered = lowered_for(exported(name, SEVEN), SEVEN)
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    for size in (1.0, 100.0):
        inputs = {"input": asked(size)}
        expected = integers_of(lowered, inputs, as_avx2=True)
        ends = [step.quantize.output[0] for step in quantized_graph(lowered).steps()]
        assert len(ends) >= 8
        for tensor in ends:
            assert np.array_equal(answered(cut_at(lowered, tensor), inputs), expected[tensor]), tensor


@pytest.mark.parametrize("name", NETWORKS)
def test_the_engine_gives_the_answers_of_the_reference_within_1e_6(name: str, tmp_path: Path) -> None:
    lowered = lowered_for(exported(name, SEVEN), SEVEN)
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    onnx.save(lowered, tmp_path / "lowered.onnx")
    engine = OnnxRuntime()
    engine.build(tmp_path / "lowered.onnx", tmp_path / "model.engine.onnx", threads=1)
    runner = engine.open(tmp_path / "model.engine.onnx", threads=1)
    for size in (1.0, 100.0):
        expected = integers_of(lowered, {"input": asked(size)}, as_avx2=True)["output"]
        # The last layer is float: 32 products of order one, summed in another order. One wrong code costs 1e-3.
        np.testing.assert_allclose(runner(asked(size)), expected, rtol=0, atol=1e-6)
    runner.close()
    steps = [step for step in quantized_graph(lowered).steps() if step.node.op_type in ("Conv", "Gemm")]
    assert engine.operators(tmp_path / "model.engine.onnx").integer == len(steps)
