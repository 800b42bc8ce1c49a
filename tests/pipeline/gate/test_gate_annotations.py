"""Workflow commands of a gate, read back as GitHub's runner reads them."""

import re

import pytest

from pipeline.gate.gate_annotations import annotations
from pipeline.gate.outcome import Finding, Gate, Line


def line(name: str, finding: Finding, *, limit: float | None = 1.02, why: str = "Because.") -> Line:
    return Line(name, "ms", 1.0, 1.1, "ratio", 1.1, 1.05, 1.15, limit, finding, why)


def gate(*lines: Line, remarks: tuple[str, ...] = ()) -> Gate:
    return Gate("base", "new", "x86-cpu", None, lines, remarks=remarks)


def read(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Kind, properties and message of each command; a line that is none fails."""
    found = []
    for row in text.splitlines():
        whole = re.fullmatch(r"::(error|warning|notice) ([^:]*)::(.*)", row)
        assert whole is not None, row
        pairs = (part.split("=", 1) for part in whole[2].split(","))
        found.append((whole[1], {name: unescaped(value) for name, value in pairs}, unescaped(whole[3])))
    return found


def unescaped(text: str) -> str:
    """The runner's way back; the percent sign last."""
    for escape, what in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(escape, what)
    return text


@pytest.mark.parametrize(("undecided", "kind"), [("undecided", "error"), ("fail", "error"), ("pass", "warning")])
def test_1_regressed_and_1_undecided_line_are_2_annotations_and_the_verdict_is_the_3rd(
    undecided: str, kind: str
) -> None:
    lines = (line("latency", Finding.REGRESSED), line("p50", Finding.FINE), line("p99", Finding.UNDECIDED))
    found = read(annotations(gate(*lines), undecided=undecided))
    assert [(each, about["title"]) for each, about, _ in found] == [
        ("error", "compress gate: latency regressed"),
        (kind, "compress gate: p99 undecided"),
        ("notice", "compress gate: regressed"),
    ]
    assert found[0][2] == "latency +10.00 % (interval +5.00 … +15.00 %), at most +2 % is allowed. Because."


def test_a_gate_that_is_fine_is_1_notice_with_its_remarks() -> None:
    lines = (line("latency", Finding.FINE), line("p99", Finding.REPORTED, limit=None))
    ((kind, _, says),) = read(annotations(gate(*lines, remarks=("busy: 80 %, all day",)), undecided="undecided"))
    assert kind == "notice"
    assert says.splitlines()[1] == "busy: 80 %, all day"


def test_5_characters_that_mean_something_to_the_runner_are_escaped() -> None:
    name = "100%, a:b\r\n::error::no"
    text = annotations(gate(line(name, Finding.REGRESSED)), undecided="fail")
    assert len(text.splitlines()) == 2  # nothing broke out of its line
    first = text.splitlines()[0]
    assert first.startswith("::error title=compress gate%3A 100%25%2C a%3Ab%0D%0A%3A%3Aerror%3A%3Ano regressed::")
    assert "::100%25, a:b%0D%0A::error::no +10.00 %25" in first  # in the message : and , stay


def test_what_was_escaped_already_is_escaped_a_2nd_time() -> None:
    ((_, about, _), _) = read(annotations(gate(line("a%2Cb", Finding.REGRESSED)), undecided="fail"))
    assert about["title"] == "compress gate: a%2Cb regressed"
