"""Recurrent layers of few steps on stored floats: the same answers, and no weight that the engine dequantizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.quantization.fake_quant import exportable
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.lower_recurrent import FEW_STEPS
from pipeline.quantization.lowering import lowered_for
from targets.engines.openvino import OpenVino
from targets.engines.ort import OnnxRuntime
from targets.schemes import ARM64, TENSORRT
from targets.target import Scheme

X86 = Scheme(weight_bits=8, unsigned_activations=True, signed_zero_point=128, why="for the test")
Answers = Callable[..., np.ndarray]


class Recurrent(nn.Module):
    """Numbers, or words as float32, into a recurrent layer, whose last step a linear layer reads."""

    def __init__(self, kind: Any, *, words: bool = False, **settings: Any) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 6) if words else None
        self.cells = kind(6, 5, batch_first=True, **settings)
        self.head = nn.Linear(10 if self.cells.bidirectional else 5, 4)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.cells(x if self.words is None else self.words(x.long()))
        return self.head(steps[:, -1])  # type: ignore[no-any-return]


def canonical_of(network: nn.Module, *, shape: tuple[int, ...], scheme: Scheme) -> onnx.ModelProto:
    graph, placement = watched(network.eval())
    student = quantized(graph, placement, amax=dict.fromkeys(placement.activations, 3.0), scheme=scheme)
    return onnx_from_torch(exportable(student.eval()), input_shape=shape)


@pytest.mark.parametrize("settings", [{}, {"bidirectional": True, "num_layers": 2}], ids=["1 layer", "2 of 2 ways"])
@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN])
@pytest.mark.parametrize(("steps", "floats"), [(1, True), (FEW_STEPS - 1, True), (FEW_STEPS, False)])
def test_weights_of_layers_of_up_to_31_steps_are_floats_of_the_same_answers(
    steps: int, floats: bool, kind: Any, settings: dict[str, Any], answered: Answers
) -> None:
    torch.manual_seed(0)
    canonical = canonical_of(Recurrent(kind, **settings), shape=(steps, 6), scheme=X86)
    lowered = lowered_for(canonical, X86)
    onnx.checker.check_model(lowered, full_check=True)
    stored = {each.name: numpy_helper.to_array(each) for each in lowered.graph.initializer}
    cells = [node for node in lowered.graph.node if node.op_type == kind.__name__]
    assert len(cells) == settings.get("num_layers", 1)
    assert all((name in stored) is floats for node in cells for name in node.input[1:3])
    assert any(each.dtype == np.int8 for each in stored.values()) is not floats
    inputs = {"input": np.random.default_rng(0).normal(size=(1, steps, 6)).astype(np.float32)}
    # Sums of float32 in another order where weights are packed.
    assert np.allclose(answered(lowered, inputs), answered(canonical, inputs), rtol=0, atol=1e-6)


def test_for_tensorrt_and_where_1_lstm_is_an_integer_one_nothing_is_changed() -> None:
    torch.manual_seed(0)
    for kind, scheme in ((nn.GRU, TENSORRT), (nn.LSTM, X86), (nn.LSTM, ARM64)):
        canonical = canonical_of(Recurrent(kind), shape=(7, 6), scheme=scheme)
        lowered = lowered_for(canonical, scheme)
        assert [each.name for each in lowered.graph.initializer] == [each.name for each in canonical.graph.initializer]


@pytest.mark.parametrize("words", [False, True], ids=["numbers", "words"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_openvino_answers_like_onnx_runtime_in_3_kinds_of_recurrent_layers(
    kind: Any, words: bool, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'edge-compress[openvino]'")
    torch.manual_seed(0)
    shape = (9,) if words else (9, 6)
    random = np.random.default_rng(0)
    asked = random.integers(0, 30, (1, 9)) if words else random.normal(size=(1, 9, 6))
    inputs = asked.astype(np.float32)
    file = tmp_path / "lowered.onnx"
    onnx.save(lowered_for(canonical_of(Recurrent(kind, words=words), shape=shape, scheme=X86), X86), file)
    answers = []
    for engine in (OnnxRuntime(), OpenVino()):
        path = tmp_path / f"model{engine.suffix}"
        engine.build(file, path, threads=1)
        runner = engine.open(path, threads=1)
        answers.append(runner(inputs))
        runner.close()
    # OpenVINO multiplies floats where ONNX Runtime rounds what an LSTM multiplies to 8 bits.
    allowed = 0.02 if kind is nn.LSTM else 1e-5
    assert np.abs(answers[0] - answers[1]).max() < allowed * np.abs(answers[0]).max()
