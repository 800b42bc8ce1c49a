"""The same network with a share more work: a convolution beside it, whose result is multiplied by nought and added.

The convolution reads the network's own input; the number of its channels is what makes the engine slower by about as
much as was asked for. How much slower it really is, is measured: over all processes of all gates that ran.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from targets.engines.stamp import append_stamp, read_stamped

FIRST, SECOND = 2, 48  # channels of the two networks from whose times a share's channels are told


def with_more_work(engine: Path, to: Path, *, channels: int) -> Path:
    """An engine file of ONNX Runtime whose graph also convolves its input (N, C, H, W) into so many channels."""
    stamp, content = read_stamped(engine)
    model = onnx.load_from_string(content)
    graph, asked, answer = model.graph, model.graph.input[0], model.graph.output[0]
    shape = [each.dim_value for each in asked.type.tensor_type.shape.dim]
    if asked.type.tensor_type.elem_type != TensorProto.FLOAT or len(shape) != 4:
        raise SystemExit(f"{engine} takes no float32 pictures: slower networks are made of those alone.")
    classes = answer.type.tensor_type.shape.dim[-1].dim_value
    weights = np.random.default_rng(0).standard_normal((channels, shape[1], 3, 3)).astype(np.float32)
    nothing = np.zeros((channels, classes), np.float32)
    inner = f"{answer.name}_before_more_work"
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == answer.name:
                node.output[place] = inner
    graph.initializer.extend([
        numpy_helper.from_array(weights, "more_work_weights"), numpy_helper.from_array(nothing, "more_work_nothing")
    ])  # fmt: skip
    graph.node.extend([
        helper.make_node("Conv", [asked.name, "more_work_weights"], ["more_work_1"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["more_work_1"], ["more_work_2"]),
        helper.make_node("Flatten", ["more_work_2"], ["more_work_3"]),
        helper.make_node("Gemm", ["more_work_3", "more_work_nothing", inner], [answer.name]),
    ])  # fmt: skip
    to.write_bytes(model.SerializeToString())
    append_stamp(to, stamp)
    return to


def slower_by(
    engine: Path, shares: list[float], *, into: Path, log_ratio: Callable[[Path], float]
) -> dict[float, Path]:
    """For each share, such as 0.03, an engine that takes about that much longer; for nought the engine itself.

    log_ratio: measures log(time of a file / time of the engine)
    """
    with tempfile.TemporaryDirectory() as folder:
        times = [
            np.expm1(log_ratio(with_more_work(engine, Path(folder) / f"{channels}.onnx", channels=channels)))
            for channels in (FIRST, SECOND)
        ]
    per_channel = (times[1] - times[0]) / (SECOND - FIRST)
    made = {}
    for share in shares:
        if share == 0:
            made[share] = engine
            continue
        channels = max(1, round(FIRST + (share - times[0]) / per_channel))
        made[share] = with_more_work(engine, into / f"slower-{share:g}.engine.onnx", channels=channels)
    return made
