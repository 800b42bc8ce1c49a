"""Accuracy on the test, and latency of all engines of a network in turns.

Each round asks every engine once, in an order drawn anew; each timed call follows an untimed one of the same engine.
The engines are opened anew for each of three sittings: where a session lies in memory moves its time by up to 2 %.
The ratio of an engine is the median, over the rounds, of its time over that of the float network in ONNX Runtime.
Where the boxes on the test's pictures are known, mAP50 is that of the same answers (detections.py).
"""

import importlib.util
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from int8_peers.detections import Boxes, map50_of, truths_from
from int8_peers.opening import integer_operators, opened
from int8_peers.task import Quantized, error_of
from pipeline.data.fidelity import fidelity_of, sizes_of
from pipeline.graph.compare import agreement
from pipeline.store import read_json
from targets.accuracy import top1
from targets.intervals import paired_drop_interval, quantile_interval
from targets.measurement import nearest_rank
from targets.stopwatch import sample_ms, settle

SITTINGS = 3
ROUNDS = (120, 400)  # of one sitting: least and most
SITTING_S = 25.0
WARMING_S = 1.0


@dataclass(frozen=True)
class Engine:
    """One file in one runtime."""

    tool: str
    quantized: Quantized
    path: Path


def forms_in(network: Path) -> list[Engine]:
    """The float network in each runtime that is installed, first in ONNX Runtime; then all that quantizers left."""
    model = network / "given" / "float.onnx"
    runtimes = ["onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else [])]
    forms = [Engine("float", Quantized(model.name, runtime, "float32"), model) for runtime in runtimes]
    for outcome in sorted(network.glob("*/outcome.json")):
        for form in read_json(outcome).get("forms", []):
            form = Quantized(**form)
            if form.runtime in ("engine", *runtimes):
                forms.append(Engine(outcome.parent.name, form, outcome.parent / form.file))
    return forms


def measured(network: Path, forms: Sequence[Engine], *, threads: int) -> list[dict[str, Any]]:
    """A row per engine, JSON data; the first is what the others are compared with."""
    inputs, labels = np.load(network / "judged" / "inputs.npy"), np.load(network / "judged" / "labels.npy")
    rows: list[dict[str, Any]] = []
    fidelity = fidelity_of(network / "given" / "float.onnx")
    metric, sizes = fidelity or top1, sizes_of(fidelity)
    truths = known_boxes(network, pictures=len(inputs))
    wanted = right = np.empty(0, np.float32)
    for form in forms:
        with closing(opened(form.path, runtime=form.quantized.runtime, threads=threads)) as runner:
            answers = np.concatenate([runner(inputs[place : place + 1]) for place in range(len(inputs))])
        correct = np.asarray(metric(answers, labels))
        if not rows:
            wanted, right = answers, correct
        drop = paired_drop_interval(right.tolist(), correct.tolist())
        integer, total = integer_operators(form.path, runtime=form.quantized.runtime, threads=threads)
        rows.append({
            "tool": form.tool, "runtime": form.quantized.runtime, "scheme": form.quantized.scheme, "n": len(labels),
            "accuracy": float(correct.mean()), "drop_points": [drop.low, drop.high],
            "map50": None if truths is None else map50_of(answers, truths),
            "agreement": agreement(wanted, answers, sizes=sizes).equal_answers, "error": error_of(answers, wanted),
            "integer": integer, "products": total, "right": [float(each) for each in correct],
        })  # fmt: skip
    for row, times in zip(rows, timed(forms, inputs[:1], threads=threads), strict=True):
        row["samples_ms"] = times
    return [row | figures(row["samples_ms"], rows[0]["samples_ms"]) for row in rows]


def known_boxes(network: Path, *, pictures: int) -> list[Boxes] | None:
    """The true boxes on the pictures of the test; None for a network whose answers are not read as boxes."""
    path = network / "judged" / "boxes.npy"
    return truths_from(np.load(path), pictures=pictures) if path.is_file() else None


def figures(times_ms: Sequence[float], reference_ms: Sequence[float]) -> dict[str, Any]:
    """Median, and the ratio to the reference with its interval, round by round."""
    ratios = tuple(time / other for time, other in zip(times_ms, reference_ms, strict=True))
    bounds = quantile_interval(ratios, 0.5)
    return {
        "median_ms": nearest_rank(tuple(times_ms), 0.5), "ratio": nearest_rank(ratios, 0.5),
        "ratio_interval": [bounds.low, bounds.high],
    }  # fmt: skip


def timed(forms: Sequence[Engine], one: np.ndarray, *, threads: int) -> list[list[float]]:
    """The times of each engine, round by round, over all sittings."""
    times: list[list[float]] = [[] for _ in forms]
    for sitting in range(SITTINGS):
        with ExitStack() as stack:
            runners = [
                stack.enter_context(closing(opened(form.path, runtime=form.quantized.runtime, threads=threads)))
                for form in forms
            ]
            calls = [lambda runner=runner: runner(one) for runner in runners]
            medians = [settle(call, max_seconds=WARMING_S)[1] for call in calls]
            rounds = int(np.clip(SITTING_S * 1000 / (2 * sum(medians)), *ROUNDS))
            for all_times, new in zip(times, in_turns_ms(calls, rounds=rounds, seed=sitting), strict=True):
                all_times += new
    return times


def in_turns_ms(calls: Sequence[Callable[[], object]], *, rounds: int, seed: int) -> list[list[float]]:
    """The times of each call, `rounds` of them; each timed one follows an untimed one of the same call."""
    draw = random.Random(seed)
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for place in draw.sample(range(len(calls)), len(calls)):
            times[place].append(sample_ms(calls[place], count=2)[-1])
    return times
