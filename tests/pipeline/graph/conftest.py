"""What the tests of the ONNX importer share: small ONNX files, and ONNX Runtime's answers to compare with."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import fx

from pipeline.graph.module_from_onnx import module_from_onnx
from targets.engines.session import joined

Saved = Callable[..., Path]
Step = tuple[Any, ...]  # operator, inputs, outputs, attributes


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Writes an ONNX file with input `x` and output `y`.

    shape: of the input with the batch axis; a word is an axis that is left free · steps: (operator, inputs, output or
    outputs, attributes)
    """

    def save(
        steps: Sequence[Step],
        *,
        shape: tuple[int | str, ...],
        constants: dict[str, np.ndarray] | None = None,
        opset: int = 17,
        outputs: tuple[str, ...] = ("y",),
    ) -> Path:
        nodes = [
            helper.make_node(
                operator, list(inputs), [made] if isinstance(made, str) else list(made), name=f"node_{number}",
                **settings,
            )
            for number, (operator, inputs, made, settings) in enumerate(steps)
        ]  # fmt: skip
        graph = helper.make_graph(
            nodes, "small",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        path = tmp_path / "small.onnx"
        onnx.save(model, path)
        return path

    return save


@pytest.fixture
def same_answers() -> Callable[..., fx.GraphModule]:
    """Checks an imported file against ONNX Runtime, alone and in a batch of three, and traced once more."""

    def check(
        path: Path, *, shape: tuple[int, ...], tolerance: float = 1e-5, outputs: tuple[str, ...] = ()
    ) -> fx.GraphModule:
        network = module_from_onnx(path, outputs=outputs)
        inputs = np.random.default_rng(3).normal(size=(3, *shape)).astype(np.float32)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name, kept = session.get_inputs()[0].name, list(outputs) or None
        wanted = [joined(session.run(kept, {name: inputs[row : row + 1]})) for row in range(3)]
        reference = np.concatenate(wanted)
        room = tolerance * max(float(np.abs(reference).max()), 1.0)  # float32 sums in another order
        again = fx.symbolic_trace(copy.deepcopy(network))
        for each in (network, again):
            with torch.no_grad():
                batch, alone = each(torch.from_numpy(inputs)), each(torch.from_numpy(inputs[:1]))
            np.testing.assert_allclose(batch.numpy(), reference, rtol=0, atol=room)
            np.testing.assert_allclose(alone.numpy(), reference[: len(wanted[0])], rtol=0, atol=room)
        return network

    return check
