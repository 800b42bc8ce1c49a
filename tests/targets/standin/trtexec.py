"""A stand-in for NVIDIA's `trtexec`, for tests: no GPU, no TensorRT, and no time of it was ever measured.

    python trtexec.py --onnx=m.onnx --saveEngine=m.plan …        python trtexec.py --loadEngine=m.plan …

It takes and refuses the options of the TensorRT it stands in for, writes files in trtexec's formats, computes true
answers with ONNX Runtime (Q/DQ executed in float) and gives out times that its settings name. Settings: the file named
by STANDIN_TRTEXEC, else `trtexec.json` beside this one; all optional:

    tensorrt       "10.3.0"
    device         "Orin (stand-in)": an engine of another device is refused
    median_ms      {"int8": 0.8, "fp16": 1.2, "fp32": 2.4}; by what most Conv and Gemm of the engine run in
    strong_ratio   1.0: times that of what is strongly typed where the types need not be
    variation      0.004: standard deviation over median · drift 0.0: how much slower the second half is
    times          a times.json that was recorded on a device: its rows are given out instead
    build_fails    a sentence: the build ends with it as an error · sleep_s 0: how long each call hangs first
    log            a file that gets each command line
    counts         a file with a number, which grows by one with each run: a counter of throttling, for instance
"""

import hashlib
import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # by path too: the script may be loaded as a module

from trtexec_layers import layer_table, shapes_of
from trtexec_options import DEFAULT_IN_11, known_options, version_code
from trtexec_runs import Refused, infer, said, write_json

MAGIC = b"STAND-IN ENGINE, NOT OF TENSORRT\n"
DEFAULTS = {
    "tensorrt": "10.3.0", "device": "Orin (stand-in)", "median_ms": {"int8": 0.8, "fp16": 1.2, "fp32": 2.4},
    "strong_ratio": 1.0, "variation": 0.004, "drift": 0.0, "times": "", "build_fails": "", "sleep_s": 0, "log": "",
    "counts": "",
}  # fmt: skip


def main(arguments: list[str], *, settings_file: Path | None = None) -> int:
    """Do as trtexec does; returns the exit code."""
    settings = read_settings(settings_file)
    version = tuple(int(part) for part in settings["tensorrt"].split("."))
    line = "TensorRT.trtexec [TensorRT v{}] # trtexec {}".format(version_code(version), " ".join(arguments))
    if settings["log"]:
        with Path(settings["log"]).open("a", encoding="utf-8") as log:
            log.write("trtexec " + " ".join(arguments) + "\n")
    print("&&&& RUNNING " + line, flush=True)
    time.sleep(settings["sleep_s"])
    try:
        options = parsed(arguments, version=version)
        if "help" in options:
            return 0
        said("I", "TensorRT version: {} (stand-in)".format(settings["tensorrt"]))
        plan = loaded(options, settings) if "loadEngine" in options else built(options, settings, version=version)
        if not {"skipInference", "buildOnly"} & set(options):
            infer(plan, options, settings, version=version)
            if settings["counts"]:
                counter = Path(settings["counts"])
                counter.write_text(str(int(counter.read_text(encoding="utf-8")) + 1), encoding="utf-8")
    except Refused as refused:
        for sentence in str(refused).split("\n"):
            said("E", sentence)
        print("&&&& FAILED " + line, flush=True)
        return 1
    print("&&&& PASSED " + line, flush=True)
    return 0


def read_settings(named: Path | None) -> dict[str, Any]:
    beside = Path(__file__).resolve().with_name("trtexec.json")
    path = named or Path(os.environ.get("STANDIN_TRTEXEC") or beside)
    return {**DEFAULTS, **(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})}


def parsed(arguments: list[str], *, version: tuple[int, ...]) -> dict[str, str]:
    known = known_options(version)
    options, unknown = {}, []
    for argument in arguments:
        name, _, value = argument.partition("=")
        name = {"-h": "--help", "--version": "--help", "-v": "--verbose"}.get(name, name)
        if not name.startswith("--") or name[2:] not in known:
            unknown.append(f"Unknown option: {name} {value}")
        options[name[2:]] = value
        if version >= (11,) and name[2:] in DEFAULT_IN_11:
            said("W", f"{name} is the default now and has no effect.")
    if unknown:
        raise Refused("\n".join(unknown))
    if "help" not in options and "onnx" not in options and "loadEngine" not in options:
        raise Refused("Model missing or format not recognized")
    return options


# --- build -----------------------------------------------------------------------------------------------------------


def built(options: dict[str, str], settings: dict[str, Any], *, version: tuple[int, ...]) -> tuple[Any, bytes]:
    """ONNX → the content of a plan, saved where asked."""
    try:
        content = Path(options["onnx"]).read_bytes()
    except OSError as error:
        raise Refused("Could not open file {}\nFailed to parse onnx file".format(options["onnx"])) from error
    if settings["build_fails"]:
        raise Refused(settings["build_fails"] + "\nEngine could not be created from network")
    modes = {name for name in ("int8", "fp16", "best", "stronglyTyped") if name in options}
    if "best" in modes:
        modes |= {"int8", "fp16"}
    typed = "stronglyTyped" in modes or version >= (11,)
    try:
        inputs, outputs = shapes_of(content)
        layers = layer_table(content, modes=modes, typed=typed, version=version)
    except ValueError as error:
        raise Refused(f"ModelImporter: {error}\nFailed to parse onnx file") from error
    if not typed and "int8" not in modes and any(layer["asked"] == "int8" for layer in layers):
        raise Refused(
            "Error Code 4: API Usage Error (Int8 precision has been set for a layer or layer output, "
            "but int8 is not configured in the builder)\nEngine could not be created from network"
        )
    head = {
        "tensorrt": settings["tensorrt"], "device": settings["device"], "onnx": hashlib.sha256(content).hexdigest(),
        "modes": sorted(modes), "detailed": options.get("profilingVerbosity") == "detailed",
        "layers": layers, "inputs": inputs, "outputs": outputs,
    }  # fmt: skip
    if "timingCacheFile" in options:
        Path(options["timingCacheFile"]).write_bytes(b"stand-in timing cache of " + head["onnx"].encode())
    if "saveEngine" in options:
        text = json.dumps(head, sort_keys=True).encode()
        body = struct.pack("<Q", len(text)) + text + content
        Path(options["saveEngine"]).write_bytes(MAGIC + hashlib.sha256(body).digest() + body)
    said("I", "Engine built in 0.0 sec. (stand-in)")
    write_layers(head, options)
    return head, content


def loaded(options: dict[str, str], settings: dict[str, Any]) -> tuple[Any, bytes]:
    """The content of a plan, refused as TensorRT refuses: damaged, of another version, of another device."""
    try:
        plan = Path(options["loadEngine"]).read_bytes()
    except OSError as error:
        raise Refused(
            "Error opening engine file: {}\nEngine could not be created".format(options["loadEngine"])
        ) from error
    tag, digest, body = plan[: len(MAGIC)], plan[len(MAGIC) : len(MAGIC) + 32], plan[len(MAGIC) + 32 :]
    if tag != MAGIC or hashlib.sha256(body).digest() != digest:
        raise Refused(
            "Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed."
            "Magic tag does not match)\nEngine deserialization failed\nFailed to create engine from file"
        )
    length = struct.unpack("<Q", body[:8])[0]
    head, content = json.loads(body[8 : 8 + length]), body[8 + length :]
    if head["tensorrt"] != settings["tensorrt"]:
        raise Refused(
            "Error Code 1: Serialization (Serialization assertion stdVersionRead == serializationVersion failed."
            "Version tag does not match. Note: Current Version: {}, Serialized Engine Version: {})\n"
            "Engine deserialization failed".format(settings["tensorrt"], head["tensorrt"])
        )
    if head["device"] != settings["device"]:
        raise Refused(
            "Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device, expecting "
            "compute {} got compute {})\nEngine deserialization failed".format(settings["device"], head["device"])
        )
    write_layers(head, options)
    return head, content


def write_layers(head: dict[str, Any], options: dict[str, str]) -> None:
    if "exportLayerInfo" in options:
        public = [{key: value for key, value in layer.items() if key[0].isupper()} for layer in head["layers"]]
        names = [binding["name"] for binding in head["inputs"] + head["outputs"]]
        layers = public if head["detailed"] else [layer["Name"] for layer in public]
        write_json(options["exportLayerInfo"], {"Layers": layers, "Bindings": names})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
