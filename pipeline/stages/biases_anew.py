"""Biases corrected anew for a student that goes to a runtime without some of its quantizers.

They were corrected for the roundings of all its quantizers (bias_correction.py). Where some are left out, what made up
for them is an error of its own: MobileNetV1-0.25 in OpenVINO, without quantizers before LeakyReLUs and depthwise
convolutions, lost as much accuracy as with all of them. Of a student that was trained nothing is changed.
"""

import copy
from dataclasses import replace

import onnx
import safetensors.torch
import torch
from torch import Tensor, fx

from calibration.samples import Samples
from pipeline.candidate import Candidate, save_weights
from pipeline.graph.separate_outputs import doors_named, doors_of
from pipeline.quantization.bias_correction import biases_corrected
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.fake_quant import switched_off
from pipeline.quantization.fewer_roundings import without_places
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.preparation import answers_of
from pipeline.quantization.sensitivity import modules_of, quantizers_of
from pipeline.quantization.walk import fitting
from pipeline.stage import Run
from pipeline.stages.export import onnx_of
from pipeline.stages.quantize import FLOAT_BIASES
from pipeline.stages.rivals import Rival
from pipeline.stages.spread_samples import samples_from
from pipeline.store import written_atomically

SAMPLES = 256  # at the most; of large ones fewer (walk.py)


def with_biases_anew(rival: Rival, run: Run) -> Rival:
    """The rival with biases for the quantizers that it has: its files and its torch network, not yet its engine.

    The same rival where its biases were trained, or the answers do not come nearer to the float network's.
    """
    stated = rival.origin.path.parent / FLOAT_BIASES
    student = rival.origin.module() if rival.unrounded and stated.is_file() else None
    if not isinstance(student, fx.GraphModule):
        return rival
    run.progress.advance(0, 1, f"biases for {rival.engine.name}")
    found = corrected(student, float_biases=safetensors.torch.load_file(stated), samples=samples_from(run, SAMPLES))
    if found is None:
        return rival
    path = run.folder / f"{rival.engine.name}-weights.safetensors"
    if run.workers.leads:
        save_weights(found, path)
    return _exported(rival, replace(rival.origin, path=path, digest=f"{rival.origin.digest}-biases"), run)


@torch.no_grad()
def corrected(student: fx.GraphModule, *, float_biases: dict[str, Tensor], samples: Samples) -> fx.GraphModule | None:
    """The student with its biases corrected from those of the float network; None if its answers come no nearer.

    student: with the corrected biases that it has; it is left alone
    float_biases: of the float network whose weights are the student's, by the names of the student's state
    """

    twin, other = copy.deepcopy(student), copy.deepcopy(student)
    for graph in (twin, other):
        graph.load_state_dict({**graph.state_dict(), **float_biases}, strict=True)
    with switched_off(modules_of(twin, quantizers_of(twin))):
        some = fitting(twin, samples)
        expected = answers_of(twin, some)
        biases_corrected(other, reference=twin, inputs=some)
    biases_on_grid(other)
    before, after = (float((answers_of(each, some) - expected).square().sum()) for each in (student, other))
    return other.eval() if after < before else None


def _exported(rival: Rival, origin: Candidate, run: Run) -> Rival:
    """The rival with the files of this torch network, under the names that they have."""
    (first, source), (second, lowered), *_ = rival.files
    doors = doors_of(onnx.load(source))
    model = without_places(onnx_of(origin.module(), input_shape=run.dataset.input_shape), ())
    doors_named(model, doors)
    for file, form in ((source, model), (lowered, lowered_for(model, run.target.scheme()))):
        with written_atomically(file) as beside:
            onnx.save(form, beside)
    return replace(rival, origin=origin, files=((first, source), (second, lowered)))
