"""What a report tells about layers in float and in integers: what each costs, and why some went back to float."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report_blocks import Cell, Mark, Part, Section, Table
from pipeline.report_words import DASH, GAP, digits, grouped, list_words, milliseconds, percent, points

Manifest = Mapping[str, Any]
MOST_ROWS = 40  # those whose quantization costs most

METHOD = (
    "Error: squared difference from the float network's answers over their variance, on {samples} validation inputs; "
    "with all in float but these layers, and with all quantized but these. Together layers give up their common tensor "
    "too. Layers go back to float in the order of the first error per price. Price: {prices}."
)

FORETOLD = (
    "Foretold: the drop with all quantized, times what is left of the error. The score of few inputs is partly luck, "
    "and the best of several scores more so; a mix is taken when both drops are allowed."
)


def precision(manifest: Manifest) -> Section | None:
    """The layers of the stage that looked for a mix."""
    for stage in manifest["stages"]:
        facts = stage["facts"].get("precision")
        if facts:
            return Section("Integers and float, layer by layer", tuple(_parts(facts)))
    return None


def _parts(facts: Mapping[str, Any]) -> list[Part]:
    lost = 100 * (facts["float_score"] - facts["quantized_score"])
    said = (
        f"On the validation split the float network scores {percent(facts['float_score'])} and the calibrated one "
        f"{percent(facts['quantized_score'])}: {points(lost).removeprefix('+')} points are lost, and "
        f"{facts['allowed_drop_points']:g} are allowed"
    )
    if not facts["rows"]:
        return [f"{said}. No layer had to go back to float." if facts["met"] else f"{said}."]
    outcome = "That is within the limit." if facts["met"] else "The limit is missed all the same."
    tested = [
        (grouped(len(layers)), list_words(list(layers)) or DASH, percent(score), points(100 * foretold))
        for layers, score, foretold in facts["tested"]
    ]
    return [
        f"{said}. With the layers below in float the score is {percent(facts['score'])}. {outcome}",
        Table(("layers", "error, alone quantized", "error, alone float", "price", ""), _rows(facts), "lrrrl"),
        METHOD.format(samples=grouped(facts["samples"]), prices=facts["prices"]),
        Table(("in float", "which", "score", "drop foretold, points"), tuple(tested), "rlrr"),
        FORETOLD,
    ]


def _rows(facts: Mapping[str, Any]) -> tuple[tuple[Cell, ...], ...]:
    """Those in float first, then the costliest; the rest in one line."""
    ordered = sorted(facts["rows"], key=lambda row: (not row["float"], -(row["error_alone_quantized"] or 0.0)))
    shown = ordered[:MOST_ROWS]
    rows: list[tuple[Cell, ...]] = [
        (
            " + ".join(row["layers"]), _share(row["error_alone_quantized"]), _share(row["error_alone_float"]),
            _price(row["price"], facts["unit"]), "float" if row["float"] else Mark("integer", "integer"),
        )
        for row in shown
    ]  # fmt: skip
    rest = ordered[MOST_ROWS:]
    if rest:
        most = max(row["error_alone_quantized"] or 0.0 for row in rest)
        rows.append((f"{grouped(len(rest))} more", f"up to {_share(most)}", "", "", _arithmetic(rest)))
    return tuple(rows)


def _share(error: float | None) -> str:
    return DASH if error is None else f"{digits(100 * error)}{GAP}%"


def _price(price: float, unit: str) -> str:
    return milliseconds(price) if unit == "ms" else f"{grouped(round(price))}{GAP}{unit}"


def _arithmetic(rows: Sequence[Mapping[str, Any]]) -> Mark | str:
    kinds = {bool(row["float"]) for row in rows}
    return "float and integer" if len(kinds) > 1 else "float" if kinds.pop() else Mark("integer", "integer")
