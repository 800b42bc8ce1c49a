"""What a report tells about layers of the INT8 engine that were tried in float kernels."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report_blocks import Cell, Part, Table
from pipeline.report_words import GAP, factor, list_words

MOST_LAYERS = 12


def engine_name(rival: Mapping[str, Any]) -> str:
    """An engine in the table of rivals."""
    kernels, form = rival.get("kernels") or (), rival.get("form")
    if kernels:
        return f"{rival['name']}: int8, {len(kernels)} of its layers in float kernels"
    return f"{rival['name']}, {form}" if form else str(rival["name"])


def not_built(facts: Mapping[str, Any]) -> list[Part]:
    """The engines that could not be built, and what was said."""
    rows = tuple((engine_name(each), each["runtime"], each["why"]) for each in facts.get("refused") or ())
    return [Table(("not built", "runtime", "why"), rows, "lll")] if rows else []


def mixed_kernels(rivals: Sequence[Mapping[str, Any]], tried: Sequence[Mapping[str, Any]]) -> list[Part]:
    """The sets of layers that were tried, and the layers of each mixed engine that was a rival."""
    parts: list[Part] = []
    parts += [_left_out(each) for each in tried if "left_out" in each]
    for each in tried:
        if "left_out" in each:
            continue
        sets = [f"{factor(mix['times_as_fast'])} with {mix['layers']}" for mix in each["tried"]]
        parts.append(
            f"{len(each['slower_in_integers'])} layers are slower in integers than in float in {each['runtime']}. With "
            f"float kernels on the same grid for those that gain most, the INT8 engine was, over itself with none: "
            f"{list_words(sets)}."
        )
    for rival in rivals:
        kernels = sorted(rival.get("kernels") or (), key=lambda cost: cost["float_ms"] - cost["integer_ms"])
        lines: list[tuple[Cell, ...]] = [
            (cost["layer"], *(f"{cost[name]:.3f}{GAP}ms" for name in ("integer_ms", "float_ms", "conversions_ms")))
            for cost in kernels[:MOST_LAYERS]
        ]
        if len(kernels) > MOST_LAYERS:
            lines.append((f"{len(kernels) - MOST_LAYERS} more", "", "", ""))
        if lines:
            head = (f"in a float kernel in {rival['runtime']}", "in integers", "in float", "conversions")
            parts.append(Table(head, tuple(lines), "lrrr"))
    return parts


def _left_out(tried: Mapping[str, Any]) -> str:
    """Which quantizers a further runtime does without."""
    trials = [
        f"{factor(trial['times_as_fast'])} without those before {trial['before']}, "
        f"which were {'left out' if trial['kept'] else 'kept'}"
        for trial in tried["left_out"]
    ]
    return (
        f"In {tried['runtime']} the INT8 engine was tried without some of the student's quantizers. It was "
        f"{list_words(trials)}."
    )
