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
from targets.engines.elsewhere import ONNX_RUNTIME, beside_engine
from targets.engines.raw_arrays import read_raw
from targets.engines.session import joined
from targets.engines.stamp import Stamp, append_stamp

EXAMPLES = "examples.npz"


def put_engine(bundle: Path, evidence: Path, name: str, *, order: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Put it there; gives the name of its file.

    evidence: the folder · name: which of its engines · found: what evidence.json holds
    """
    engine = found["engines"][name]
    file = f"engine{str(engine['engine']).removeprefix(name)}"
    shutil.copyfile(evidence / str(engine["engine"]), bundle / file)
    if order["runtime"] == ONNX_RUNTIME:
        facts = found["facts"]
        features = tuple(str(each) for each in facts.get("cpu_features") or ())
        built_by, architecture = str(engine["build"].get("runtime")), str(facts.get("architecture"))
        append_stamp(bundle / file, Stamp(built_by, architecture, features, int(order["threads"])))
    told = {key: value for key, value in engine["build"].items() if key != "files"}
    door = {key: order["inputs"][key] for key in ("name", "dtype")}
    write_json(beside_engine(bundle / file), {**told, "input": door})
    with_answers(bundle / EXAMPLES, joined([read_raw(each, evidence) for each in engine["answers"]]))
    return file
