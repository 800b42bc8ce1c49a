"""The engine that a device built later, put into its bundle with what belongs to it: `compress build`.

engine.*       as the device built it; behind one of ONNX Runtime the stamp that every such file has
engine.*.json  what built it: compared on a device before the engine is opened there
examples.npz   the device's own answers, in place of those of the network that was not built yet
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.bundle import with_answers
from pipeline.store import write_json
from targets.engines.elsewhere import ONNX_RUNTIME, beside_engine, stamp_of
from targets.engines.raw_arrays import read_raw
from targets.engines.session import joined
from targets.engines.stamp import append_stamp
from targets.on_device.finish import wants_half

EXAMPLES = "examples.npz"


def put_engine(bundle: Path, evidence: Path, name: str, *, order: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Put it there; gives the name of its file.

    evidence: the folder · name: which of its engines · found: what evidence.json holds
    """
    engine, facts = found["engines"][name], found["facts"]
    file = bundle / f"engine{Path(str(engine['engine'])).suffix}"
    shutil.copyfile(evidence / str(engine["engine"]), file)
    if order["runtime"] == ONNX_RUNTIME:
        append_stamp(file, stamp_of(engine["build"], facts, threads=int(order["threads"])))
    told = {key: value for key, value in engine["build"].items() if key != "files"}
    kind = "float16" if wants_half(order, facts) else order["inputs"]["dtype"]
    write_json(beside_engine(file), {**told, "input": {"name": order["inputs"]["name"], "dtype": kind}})
    with_answers(bundle / EXAMPLES, joined([read_raw(each, evidence) for each in engine["answers"]]))
    return file.name
