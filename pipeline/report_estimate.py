"""How an estimate is said: always as one, with what it takes for granted."""

from collections.abc import Mapping
from typing import Any

from pipeline.report_blocks import Listing, Section
from pipeline.report_words import digits

Told = Mapping[str, Any]


def estimate_words(told: Told) -> str:
    """In one line; `told` is the field "estimate" of the `--json` output."""
    if told["missing"]:
        return f"no estimate{of_board(told)}: {told['missing']}"
    said = f"estimate, not a measurement: {span_words(told['engine_ms'])} ms{of_board(told)}"
    said += f", the teacher in FP32 {span_words(told['teacher_ms'])} ms"
    if told["speedup"] is not None:
        said += f", {span_words(told['speedup'])} times as long"
    return said


def estimate_text(told: Told) -> str:
    """For the command line: with the assumptions."""
    if told["missing"]:
        return estimate_words(told) + "\n"
    return f"{estimate_words(told)}\n  (roofline: {'; '.join(told['assumptions'])})\n"


def estimate_section(manifest: Mapping[str, Any]) -> Section | None:
    """A section of the report; None where nothing had to be estimated."""
    told = manifest.get("estimate")  # manifests of earlier versions have none
    if told is None:
        return None
    said = estimate_words(told)
    said = f"{said[0].upper()}{said[1:]}."
    if told["missing"]:
        return Section("Estimate", (said,))
    how = (
        "A roofline: of each layer the time of its operations or of its bytes, whichever is longer, from the figures "
        "of the device. No verdict rests on it. It takes for granted:"
    )
    return Section("Estimate", (said, how, Listing(tuple(told["assumptions"]))))


def of_board(told: Told) -> str:
    """Where, if a board is known."""
    return f" on {told['board']}" if told["board"] else ""


def span_words(span: Mapping[str, float]) -> str:
    """Both ends, with two digits: an estimate has no more."""
    return f"{digits(span['low'], significant=2)} to {digits(span['high'], significant=2)}"
