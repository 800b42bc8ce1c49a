"""What a report tells about the teacher's worth: calibration, training from the labels, and distillation side by side.

The numbers are those of `pipeline/quantization/without_teacher.py`, kept in a quantize stage's facts.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.report_blocks import Cell, Section, Table
from pipeline.report_words import grouped, percent, points

Manifest = Mapping[str, Any]
NAMES = {
    "ptq": "Calibrated only (PTQ)",
    "qat": "Trained from the labels (QAT)",
    "qad": "Trained against the teacher (QAD)",
}
GAINS = {"training": ("qat", "over calibration"), "teacher": ("qad", "over the labels")}


def teacher_bought(manifest: Manifest) -> Section | None:
    """PTQ, QAT and QAD of each stage that compared them, and what each step added."""
    compared = [stage for stage in manifest["stages"] if stage["facts"].get("without_teacher")]
    if not compared:
        return None
    rows: list[tuple[Cell, ...]] = []
    said = []
    for stage in compared:
        found = stage["facts"]["without_teacher"]
        gain_of = {network: (found["gain_points"][gain], over) for gain, (network, over) in GAINS.items()}
        for network, name in NAMES.items():
            gain, over = gain_of.get(network, (None, ""))
            added = "" if gain is None else f"{points(gain['value'])} {over}"
            ends = "" if gain is None else f"{points(gain['low'])} … {points(gain['high'])}"
            scores = (percent(found["validation"][network]), percent(found["test"][network]))
            rows.append((stage["name"], name, *scores, added, ends))
        if len(found["kept_start"]) < 2:  # otherwise the three are one network
            said.append(_verdict(found["gain_points"]["teacher"], inputs=found["test_inputs"]))
        said += [
            f"{NAMES[network]}: no epoch scored as high on the validation inputs as calibration alone, so "
            "that the calibrated network was kept."
            for network in found["kept_start"]
        ]
    head = ("stage", "the student", "validation", "test", "gain, points", "paired interval")
    note = (
        "The three start from the same calibrated student; the two that train have the same data, seed, epochs and "
        "rates. Scores are of the fake-quantized network in torch. The validation inputs chose the best epoch; the "
        "test inputs were looked at once, when all three were finished, and chose nothing."
    )
    return Section("What the teacher bought", (*said, Table(head, tuple(rows), "llrrrr"), note))


def _verdict(gain: Mapping[str, Any], *, inputs: int) -> str:
    seen = f"on {grouped(inputs)} test inputs, {points(gain['low'])} to {points(gain['high'])} points with 95 %"
    if gain["low"] > 0:
        return f"The teacher brought {_bare(gain['value'])} points over training from the labels ({seen} to each side)."
    if gain["high"] < 0:
        return (
            f"The teacher cost {_bare(-gain['value'])} points against training from the labels ({seen} to each side)."
        )
    return (
        f"Whether the teacher helped is not settled: {points(gain['value'])} points over training from the labels "
        f"({seen} to each side)."
    )


def _bare(value: float) -> str:
    return points(value).removeprefix("+")
