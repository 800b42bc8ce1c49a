"""What the stand-in for `trtexec` does with an engine: true answers, made-up times, files as trtexec writes them.

A number in `--exportOutput` has six digits, as C++ prints it; the raw files have all of them.
"""

import json
import os
import random
from pathlib import Path
from typing import Any


class Refused(Exception):
    """What trtexec says with [E] before it fails."""


def said(level: str, text: str) -> None:
    print(f"[01/01/2026-00:00:00] [{level}] {text}", flush=True)


def infer(
    plan: tuple[Any, bytes], options: dict[str, str], settings: dict[str, Any], *, version: tuple[int, ...]
) -> None:
    """Answer, and write what is asked for: times, profile, outputs."""
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


def read_inputs(inputs: list[dict[str, Any]], spec: str) -> dict[str, bytes | None]:
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
                f"Note: Input dimensions not matching the file {path}: "
                f"{sizes[name]} bytes expected, {len(feeds[name])} found"
            )
    return feeds


def rows_of(
    head: dict[str, Any], options: dict[str, str], settings: dict[str, Any], *, version: tuple[int, ...]
) -> list[dict[str, float]]:
    """The rows of times.json: as recorded on a device if settings name such a file, else made up from the settings."""
    if settings["times"]:
        return json.loads(Path(settings["times"]).read_text(encoding="utf-8"))
    median = settings["median_ms"][main_precision(head["layers"])]
    median *= settings["strong_ratio"] if "stronglyTyped" in head["modes"] else 1.0
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


def main_precision(layers: list[dict[str, Any]]) -> str:
    """What most of the layers with weights run in."""
    heavy = [str(layer["runs"]) for layer in layers if layer["heavy"]] or ["fp32"]
    return max(sorted(set(heavy)), key=heavy.count)


def profile_of(head: dict[str, Any], mean: float, *, count: int) -> list[dict[str, Any]]:
    """Every layer's share of the mean: three times as much where it has weights. Made up, like the times."""
    weights = [3.0 if layer["heavy"] else 1.0 for layer in head["layers"]]
    rows: list[dict[str, Any]] = [{"count": count}]
    for layer, weight in zip(head["layers"], weights, strict=False):
        average = mean * weight / sum(weights)
        share = 100 * weight / sum(weights)
        rows.append({
            "name": layer["Name"], "timeMs": average * count, "averageMs": average, "medianMs": average,
            "percentage": share,
        })  # fmt: skip
    return rows


def answers(content: bytes, feeds: dict[str, bytes | None], head: dict[str, Any]) -> dict[str, Any]:
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


def write_outputs(found: dict[str, Any], head: dict[str, Any], options: dict[str, str]) -> None:
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


def write_json(path: str, content: Any) -> None:
    Path(path).write_text(json.dumps(content, indent=1), encoding="utf-8")
