"""Write the network as ONNX, each quantizer as a QuantizeLinear and a DequantizeLinear, and check the answers."""

from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from pipeline.candidate import Architecture, Candidate, Form
from pipeline.data.dataset import inputs_for_network, rows_at_once
from pipeline.data.fidelity import sizes_of
from pipeline.errors import StageFailed
from pipeline.graph.compare import Agreement, agreement, agreement_within_rounding
from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.graph.separate_outputs import doors_named, outputs_apart, outputs_named
from pipeline.quantization.fake_quant import exportable, has_quantizers
from pipeline.stage import Run
from pipeline.store import written_atomically
from targets.budget import Budget
from targets.engines.session import open_session, runner_of

CHECKED_INPUTS = 64


@dataclass(frozen=True)
class Export:
    """torch → ONNX, opset 17, batch 1.

    least_equal: the share of validation answers that must be the same in torch and in ONNX, near ties aside
    doors: names for the input and the outputs of the file, in order; none for `input` and `output`
    """

    least_equal: float = 0.98
    doors: tuple[str, ...] = ()
    limits: Budget = Budget()
    name: str = "export"

    takes = Form.TORCH
    gives = Form.ONNX
    for_target = False

    def __call__(self, candidate: Candidate, run: Run) -> Candidate:
        path = run.folder / "model.onnx"
        module = candidate.module()
        model = onnx_of(module, input_shape=run.dataset.input_shape)
        if self.doors:
            doors_named(model, self.doors)
        with written_atomically(path) as beside:
            onnx.save(model, beside)
        inputs = inputs_for_network(run.dataset, run.dataset.validation.inputs[:CHECKED_INPUTS])
        with torch.inference_mode():
            expected = answers_in_parts(candidate.module(), torch.from_numpy(inputs))
        answers = answers_of_onnx(path, inputs)
        sizes = sizes_of(run.metric)
        same = agreement(expected, answers, sizes=sizes)
        if self._fails(same) and has_quantizers(candidate.module()):
            wide = exportable(candidate.module()).double()
            with torch.inference_mode(), suppress(RuntimeError):  # a network may insist on float32 in its own code
                exact = answers_in_parts(wide, torch.from_numpy(inputs).double())
                same = agreement_within_rounding(exact, answers, single=expected, sizes=sizes)
        if self._fails(same):
            raise StageFailed(
                f"the exported network answers {same.clearly_unequal} of {same.inputs} validation inputs clearly "
                f"otherwise than the torch one (at least {100 * self.least_equal:.0f} % equal answers are wanted). "
                f"The export is wrong; the file is kept at {path} for inspection."
            )
        return Candidate(self.name, self.gives, run.digest, path, candidate, {"agreement": asdict(same)})

    def architecture(self, candidate: Candidate, run: Run, facts: Mapping[str, Any]) -> Architecture | None:
        return None

    def _fails(self, same: Agreement) -> bool:
        most = (1 - self.least_equal) * same.inputs
        return same.clearly_unequal > most or not np.isfinite(same.largest)


def answers_in_parts(module: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    """The network's answers, a few inputs at a time where they are large."""
    some = rows_at_once(tuple(inputs.shape[1:]), most=CHECKED_INPUTS)
    return torch.cat([module(part) for part in torch.split(inputs, some)]).numpy()


def answers_of_onnx(path: Path, inputs: np.ndarray) -> np.ndarray:
    """What the file answers when every operator is run as it is written, by ONNX Runtime without optimisation."""
    with closing(runner_of(open_session(path, threads=1, optimize=False), path=path)) as runner:
        return runner(inputs)


def onnx_of(module: nn.Module, *, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """The network as ONNX, its outputs apart; fake quantizers become constant grid points, in place."""
    if has_quantizers(module):
        module = exportable(module)
    with outputs_apart(module) as names:
        model = onnx_from_torch(module, input_shape=input_shape)
    if names:
        outputs_named(model, names)
    return model
