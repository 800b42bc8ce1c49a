"""A stand-in for NVIDIA's `trtexec`, for tests: no GPU, no TensorRT, and no time of it was ever measured.

    python trtexec.py --onnx=m.onnx --saveEngine=m.plan …        python trtexec.py --loadEngine=m.plan …

It takes and refuses the options of the TensorRT it stands in for, writes files in trtexec's formats, computes true answers
with ONNX Runtime (Q/DQ executed in float) and gives out times that its settings name. Settings: `trtexec.json` beside this
file, or the file named by STANDIN_TRTEXEC; all optional:

    tensorrt       "10.3.0"
    device         "Orin (stand-in)": an engine of another device is refused
    median_ms      {"int8": 0.8, "fp16": 1.2, "fp32": 2.4}; by what most Conv and Gemm of the engine run in
    variation      0.004: standard deviation over median · drift 0.0: how much slower the second half is
    times          a times.json that was recorded on a device: its rows are given out instead
    build_fails    a sentence: the build ends with it as an error · sleep_s 0: how long each call hangs first
    log            a file that gets each command line
"""

import hashlib
import json
import os
import random
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # by path too: the script may be loaded as a module

from trtexec_layers import layer_table, shapes_of
from trtexec_options import DEFAULT_IN_11, known_options, version_code

MAGIC = b"STAND-IN ENGINE, NOT OF TENSORRT\n"
DEFAULTS = {
    "tensorrt": "10.3.0", "device": "Orin (stand-in)", "median_ms": {"int8": 0.8, "fp16": 1.2, "fp32": 2.4},
    "variation": 0.004, "drift": 0.0, "times": "", "build_fails": "", "sleep_s": 0, "log": "",
}  # fmt: skip


class Refused(Exception):
    """What trtexec says with [E] before it fails."""


def main(arguments):
    settings = read_settings()
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
    except Refused as refused:
        for sentence in str(refused).split("\n"):
            said("E", sentence)
        print("&&&& FAILED " + line, flush=True)
        return 1
    print("&&&& PASSED " + line, flush=True)
    return 0


def read_settings():
    path = Path(os.environ.get("STANDIN_TRTEXEC") or Path(__file__).resolve().with_name("trtexec.json"))
    return {**DEFAULTS, **(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})}


def said(level, text):
    print(f"[01/01/2026-00:00:00] [{level}] {text}", flush=True)


def parsed(arguments, *, version):
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


def built(options, settings, *, version):
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


def loaded(options, settings):
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


def write_layers(head, options):
    if "exportLayerInfo" in options:
        public = [{key: value for key, value in layer.items() if key[0].isupper()} for layer in head["layers"]]
        names = [binding["name"] for binding in head["inputs"] + head["outputs"]]
        layers = public if head["detailed"] else [layer["Name"] for layer in public]
        write_json(options["exportLayerInfo"], {"Layers": layers, "Bindings": names})


# --- inference -------------------------------------------------------------------------------------------------------


def infer(plan, options, settings, *, version):
    head, content = plan
    feeds = read_inputs(head["inputs"], options.get("loadInputs", ""))
    rows = rows_of(head, options, settings, version=version)
    if "exportTimes" in options:
        write_json(options["exportTimes"], rows)
    compute = [row["computeMs"] for row in rows]
    mean = sum(compute) / len(compute)
    spread = (sum((value - mean) ** 2 for value in compute) / len(compute)) ** 0.5 / mean
    said("I", "Throughput: %g qps" % (1000 / mean))
    said("I", f"GPU Compute Time: min = {min(compute):g} ms, max = {max(compute):g} ms, mean = {mean:g} ms")
    if spread > 0.025:  # the limit of trtexec's own warning
        said("W", "* GPU compute time is unstable, with coefficient of variance = %.3g%%." % (100 * spread))
    if "exportProfile" in options:
        write_json(options["exportProfile"], profile_of(head, mean, count=len(rows)))
    if {"exportOutput", "dumpRawBindingsToFile"} & set(options):
        write_outputs(answers(content, feeds, head), head, options)


def read_inputs(inputs, spec):
    """Name → raw bytes, from --loadInputs='name':file,…; None where trtexec takes random numbers."""
    feeds = {each["name"]: None for each in inputs}
    sizes = {each["name"]: each["bytes"] for each in inputs}
    for part in filter(None, spec.split(",")):
        name, _, path = part.rpartition(":")
        name = name.strip("'\"")
        if name not in feeds:
            raise Refused(f'Cannot find input tensor with name "{name}" in the engine bindings!')
        try:
            feeds[name] = Path(path).read_bytes()
        except OSError as error:
            raise Refused(f"Cannot open file {path}!") from error
        if len(feeds[name]) != sizes[name]:
            raise Refused(
                "Note: Input dimensions not matching the file %s: %d bytes expected, %d found"
                % (path, sizes[name], len(feeds[name]))
            )
    return feeds


def rows_of(head, options, settings, *, version):
    """The rows of times.json: as recorded on a device if settings name such a file, else made up from the settings."""
    if settings["times"]:
        return json.loads(Path(settings["times"]).read_text(encoding="utf-8"))
    median = settings["median_ms"][main_precision(head["layers"])]
    count = max(
        int(options.get("iterations") or 10), min(2000, int(float(options.get("duration") or 3) * 1000 / median))
    )
    transfers = "includeDataTransfers" in options if version >= (11,) else "noDataTransfers" not in options
    noise = random.Random(head["onnx"] + str(os.getpid()))
    at, rows = float(options.get("warmUp") or 200), []
    for index in range(count):
        compute = median * (1 + noise.gauss(0, settings["variation"]) + settings["drift"] * (2 * index >= count))
        h2d, d2h = (0.02 * median, 0.01 * median) if transfers else (0.0, 0.0)
        start = at + h2d
        rows.append({
            "startEnqMs": at, "endEnqMs": at + 0.1 * compute, "startH2dMs": at, "endH2dMs": start,
            "startComputeMs": start, "endComputeMs": start + compute, "startD2hMs": start + compute,
            "endD2hMs": start + compute + d2h, "h2dMs": h2d, "computeMs": compute, "d2hMs": d2h,
            "latencyMs": h2d + compute + d2h,
        })  # fmt: skip
        at = start + compute + d2h
    return rows


def main_precision(layers):
    """What most of the layers with weights run in."""
    heavy = [layer["runs"] for layer in layers if layer["heavy"]] or ["fp32"]
    return max(sorted(set(heavy)), key=heavy.count)


def profile_of(head, mean, *, count):
    weights = [3.0 if layer["heavy"] else 1.0 for layer in head["layers"]]
    rows = [{"count": count}]
    for layer, weight in zip(head["layers"], weights, strict=False):
        average = mean * weight / sum(weights)
        share = 100 * weight / sum(weights)
        rows.append({
            "name": layer["Name"], "timeMs": average * count, "averageMs": average, "medianMs": average,
            "percentage": share,
        })  # fmt: skip
    return rows


def answers(content, feeds, head):
    """Outputs by name: ONNX Runtime on the network that was built, every operator as it stands there."""
    try:
        import numpy as np
        import onnxruntime as ort
    except ImportError as error:
        raise Refused(f"stand-in: answers need ONNX Runtime and NumPy here ({error})") from error
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    made_up, given = np.random.default_rng(0), {}
    for each in head["inputs"]:
        kind, raw = np.dtype(each["dtype"]), feeds[each["name"]]
        values = np.frombuffer(raw, kind) if raw is not None else made_up.normal(size=each["bytes"] // kind.itemsize)
        given[each["name"]] = values.astype(kind).reshape(each["shape"])
    names = [each["name"] for each in head["outputs"]]
    return dict(zip(names, session.run(names, given), strict=False))


def write_outputs(found, head, options):
    rows = []
    for each in head["outputs"]:
        values = found[each["name"]]
        # as C++ prints a float: six digits
        shown = [float(f"{value:.6g}") if values.dtype.kind == "f" else int(value) for value in values.ravel().tolist()]
        rows.append({"name": each["name"], "dimensions": "x".join(map(str, values.shape)), "values": shown})
        if "dumpRawBindingsToFile" in options:
            dimensions = ".".join(map(str, values.shape))
            name = each["name"].replace("/", "_")
            Path("{}.output.{}.{}.raw".format(name, dimensions, each["kind"])).write_bytes(values.tobytes())
    if "exportOutput" in options:
        write_json(options["exportOutput"], rows)


def write_json(path, content):
    Path(path).write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
