"""What each layer of a calibrated network saves in integers: timed in the target's engine, where that can be done."""

import copy

import numpy as np
import onnx
from torch import fx, nn

from calibration.samples import Samples
from pipeline.quantization.insert import watched
from pipeline.quantization.layer_prices import (
    Prices,
    layers_in_order,
    prices_from_macs,
    prices_from_times,
    times_by_layer,
)
from pipeline.quantization.lowering import lowered_for
from pipeline.stage import Run
from pipeline.stages.export import onnx_of
from pipeline.store import written_atomically
from targets.errors import TargetsError
from targets.target import Scheme


def prices_on_target(
    module: nn.Module, student: fx.GraphModule, *, samples: Samples, run: Run, scheme: Scheme
) -> Prices:
    """Of every layer: from the times of both engines where they can be had, else from its multiply-accumulates.

    module: the float network · student: the same, calibrated
    """
    why = "the engine cannot be timed on this machine"
    if run.target.answers and run.target.can_be_timed():
        try:
            graph, _ = watched(module)
            one = np.asarray(samples.inputs[:1])
            floating = _times(graph, "priced-float", one, run=run, scheme=scheme)
            integer = _times(copy.deepcopy(student), "priced-integer", one, run=run, scheme=scheme)
            if floating is not None and integer is not None:
                return prices_from_times(floating, integer)
            why = "the operators of the engine cannot be told apart by layer"
        except TargetsError as error:
            why = str(error)
    return prices_from_macs(copy.deepcopy(student), one=next(iter(samples.batches(1))), why=why)


def _times(graph: fx.GraphModule, name: str, one: np.ndarray, *, run: Run, scheme: Scheme) -> dict[str, float] | None:
    """The ms of each layer in the engine of this network, which is built and removed again; exporting changes `graph`.

    None: the operators of the engine cannot be told apart by layer
    """
    layers = layers_in_order(graph)
    model = lowered_for(onnx_of(graph, input_shape=run.dataset.input_shape), scheme)
    source, engine = run.folder / f"{name}.onnx", run.target.engine
    path = source.with_suffix(engine.suffix)
    try:
        with written_atomically(source) as beside:
            onnx.save(model, beside)
        engine.build(source, path, threads=run.threads)
        return times_by_layer(model, engine.layer_times(path, one, threads=run.threads), layers=layers)
    finally:
        for each in (source, path):
            each.unlink(missing_ok=True)
