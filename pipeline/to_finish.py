"""What a bundle for a device that was not here carries along, so that it can be finished there: `to_finish/`.

    order.json      what to build, ask and measure (targets/on_device/finish.py has its fields), and what it is held to:
                    metric, labels and the limits of the budget
    float.onnx      the float network that the integer one must be faster than · teacher.onnx: what the speed-up is over
    …-float16.onnx  the same with their floats in half precision, for builders that take the types of the file
    inputs.raw.gz   evaluation inputs as the network takes them; the whole test split, or as many as 512 MB hold

Beside it lie on_device.pyz, the program that works there, and build_on_device.py, which starts it.
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset, inputs_for_network
from pipeline.data.onnx_door import taken_by
from pipeline.graph.separate_outputs import doors_named, doors_of
from pipeline.journey import Journey
from pipeline.manifest import onnx_file
from pipeline.plan import Plan
from pipeline.quantization.lowering import lowered_for
from pipeline.stages.export import onnx_of
from pipeline.stages.same_answers import float_parent
from pipeline.store import write_bytes, write_json, written_atomically
from targets.accuracy import top1, top5
from targets.engines.elsewhere import SAMPLES, input_of
from targets.on_device.finish import ORDER, SCHEMA
from targets.reach.device_part import packed
from targets.schemes import TENSORRT_FLOAT16
from targets.target import Scheme

FOLDER = "to_finish"
MOST_BYTES = 512_000_000
PART, STARTER = "on_device.pyz", "build_on_device.py"
METRICS = {"top1": top1, "top5": top5}
STARTS = '''"""Finish this bundle on the device it is for: build its engine, measure it, ask it, keep what came of it.

    python3 build_on_device.py --help

Needs Python 3.8 and the runtime that the bundle names, and nothing else. What it does is in on_device.pyz, a zip
file of plain Python.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    if sys.version_info[:2] < (3, 8):
        sys.exit("build_on_device.py: this device has Python %d.%d; 3.8 or later is needed." % sys.version_info[:2])
    sys.path.insert(0, str(HERE / "on_device.pyz"))
    from targets.on_device.finish_here import main

    sys.exit(main(HERE, sys.argv[1:]))
'''


def write_what_is_to_finish(folder: Path, plan: Plan, journey: Journey, dataset: Dataset) -> None:
    """Put everything into the bundle's folder; lowered.onnx lies there already."""
    last = journey.last.candidate
    kind, name_of_input = taken_by(onnx_file(last)).kind, onnx.load(onnx_file(last)).graph.input[0].name
    (folder / FOLDER).mkdir()
    engines: dict[str, Any] = {}
    forms: dict[str, tuple[str, onnx.ModelProto]] = {"int8": ("int8", onnx.load(onnx_file(last)))}
    parent = float_parent(last)
    if parent is None:
        forms = {"float": ("float", forms["int8"][1])}
    else:
        forms["float"] = ("float", _named_as(parent, last, dataset))
    forms["teacher"] = ("float", _named_as(journey.teacher.candidate, last, dataset))
    for name, (mode, model) in forms.items():
        engines[name] = _written(folder, name, mode, model, plan.target.scheme(), handed_over=not engines)
    count = most_inputs(dataset)
    inputs = inputs_for_network(dataset, dataset.test.inputs[:count]).astype(kind, copy=False)
    with (
        written_atomically(folder / FOLDER / "inputs.raw.gz") as beside,
        beside.open("wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as squeezed,
    ):
        squeezed.write(np.ascontiguousarray(inputs).tobytes())
    metric = next((name for name, metric in METRICS.items() if metric is plan.recipe.metric), None)
    order = {
        "schema": SCHEMA, "target": plan.target.name, "runtime": runtime_of(plan),
        "threads": plan.threads, "seed": plan.seed, "samples": SAMPLES, "engines": engines,
        "inputs": {
            "file": f"{FOLDER}/inputs.raw.gz", "name": name_of_input, "dtype": inputs.dtype.name,
            "shape": list(inputs.shape),
        },
        "metric": metric, "labels": dataset.test.labels[:count].tolist() if metric else None,
        "limits": [{"limit": each.name, "bound": each.bound, "origin": each.origin} for each in plan.budget.limits],
    }  # fmt: skip
    write_json(folder / ORDER, order)
    write_bytes(folder / PART, packed())
    write_bytes(folder / STARTER, STARTS.encode())


def runtime_of(plan: Plan) -> str:
    """What builds on the device, as its jobs name it."""
    builds_with = getattr(plan.target.engine, "builds_with", plan.target.engine.name)
    return str(builds_with).lower()


def most_inputs(dataset: Dataset) -> int:
    """How many of the test inputs go along."""
    each = inputs_for_network(dataset, dataset.test.inputs[:1]).nbytes
    return int(min(len(dataset.test), max(1, MOST_BYTES // each)))


def _named_as(candidate: Candidate, last: Candidate, dataset: Dataset) -> onnx.ModelProto:
    """A torch candidate as ONNX, its input and outputs called as those of the network that is handed over."""
    model = onnx_of(candidate.module(), input_shape=dataset.input_shape)
    doors_named(model, doors_of(onnx.load(onnx_file(last))))
    return model


def _written(
    folder: Path, name: str, mode: str, model: onnx.ModelProto, scheme: Scheme, *, handed_over: bool
) -> dict[str, Any]:
    """One form, lowered; the one that was to be handed over is the bundle's lowered.onnx."""
    file = "lowered.onnx" if handed_over else f"{FOLDER}/{name}.onnx"
    if not (folder / file).is_file():
        _save(lowered_for(model, scheme), folder / file)
    entry = {"mode": mode, "onnx": file, "takes": input_of(folder / file)["dtype"], "float16": None}
    if scheme.symmetric and scheme.float_bits == 32:
        entry["float16"] = f"{FOLDER}/{name}-float16.onnx"
        _save(lowered_for(model, TENSORRT_FLOAT16), folder / str(entry["float16"]))
    return entry


def _save(model: onnx.ModelProto, path: Path) -> None:
    with written_atomically(path) as beside:
        onnx.save(model, beside)
