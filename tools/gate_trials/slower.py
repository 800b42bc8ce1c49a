"""The same network with a share more work: a convolution beside it, whose result is multiplied by nought and added.

The convolution reads some rows of the network's own input; how many of them, and into how many channels, is what makes
the engine slower by about as much as was asked for. How much slower it really is, is measured: over all processes of
all gates that ran.
"""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from targets.engines.stamp import append_stamp, read_stamped

CHANNELS = 8  # at a time: a vector of float32
LEAST_ROWS = 3
CORRECTIONS = 5
TRIED = (8, 160)  # units of work of the two networks from whose times the work for a share is told

LogRatio = Callable[[Path], float]


def with_more_work(engine: Path, to: Path, *, units: int) -> Path:
    """An engine file of ONNX Runtime whose graph also convolves rows of its input (N, C, H, W).

    units: of work; rows times eights of channels
    """
    stamp, content = read_stamped(engine)
    model = onnx.load_from_string(content)
    graph, asked, answer = model.graph, model.graph.input[0], model.graph.output[0]
    shape = [each.dim_value for each in asked.type.tensor_type.shape.dim]
    if asked.type.tensor_type.elem_type != TensorProto.FLOAT or len(shape) != 4:
        raise SystemExit(f"{engine} takes no float32 pictures: slower networks are made of those alone.")
    eights = math.ceil(units / shape[2])
    rows = max(LEAST_ROWS, round(units / eights))
    classes = answer.type.tensor_type.shape.dim[-1].dim_value
    constants = {
        "weights": np.random.default_rng(0).standard_normal((CHANNELS * eights, shape[1], 3, 3)).astype(np.float32),
        "nothing": np.zeros((CHANNELS * eights, classes), np.float32),
        "from": np.array([0]), "to": np.array([rows]), "axis": np.array([2]),
    }  # fmt: skip
    inner = f"{answer.name}_before_more_work"
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == answer.name:
                node.output[place] = inner
    name = {each: f"more_work_{each}" for each in (*constants, "1", "2", "3", "4")}
    graph.initializer.extend([numpy_helper.from_array(value, name[each]) for each, value in constants.items()])
    graph.node.extend([
        helper.make_node("Slice", [asked.name, name["from"], name["to"], name["axis"]], [name["1"]]),
        helper.make_node("Conv", [name["1"], name["weights"]], [name["2"]], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", [name["2"]], [name["3"]]),
        helper.make_node("Flatten", [name["3"]], [name["4"]]),
        helper.make_node("Gemm", [name["4"], name["nothing"], inner], [answer.name]),
    ])  # fmt: skip
    to.write_bytes(model.SerializeToString())
    append_stamp(to, stamp)
    return to


def slower_by(engine: Path, shares: Sequence[float], *, into: Path, log_ratio: LogRatio) -> dict[float, Path]:
    """For each share, such as 0.03, an engine that takes about that much longer.

    log_ratio: measures log(time of a file / time of the engine)
    """
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "trial.engine.onnx"
        taken = {units: math.expm1(log_ratio(with_more_work(engine, trial, units=units))) for units in TRIED}
        for share in shares:
            for _ in range(CORRECTIONS):
                units = units_for(share, taken)
                if units in taken:
                    break
                taken[units] = math.expm1(log_ratio(with_more_work(engine, trial, units=units)))
            best = min(taken, key=lambda each: abs(taken[each] - share))
            made[share] = with_more_work(engine, into / f"slower-{share:g}.engine.onnx", units=best)
    return made


def units_for(share: float, taken: Mapping[int, float]) -> int:
    """The work for a share, on the line through the two networks whose shares lie nearest to it, one on each side.

    taken: units → share of those that were measured; time does not grow with the work evenly
    """
    below = [each for each in taken if taken[each] <= share] or [min(taken, key=lambda each: taken[each])]
    above = [each for each in taken if taken[each] > share] or [max(taken, key=lambda each: taken[each])]
    one, other = max(below, key=lambda each: taken[each]), min(above, key=lambda each: taken[each])
    if one == other or taken[one] == taken[other]:
        one, other = min(taken), max(taken)
    slope = (taken[other] - taken[one]) / (other - one)
    return max(1, round(one + (share - taken[one]) / slope))
