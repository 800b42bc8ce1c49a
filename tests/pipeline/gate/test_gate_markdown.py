"""The summary of a gate in Markdown: whole tables, a picture in characters, and nothing that breaks out of them."""

import re

from pipeline.gate.gate_markdown import gate_markdown
from pipeline.gate.outcome import Finding, Gate, Line

LINES = (
    Line("latency", "ms", 1.2, 1.3, "ratio", 1.08, 1.07, 1.09, 1.02, Finding.REGRESSED, "Above the limit."),
    Line("p99", "ms", 1.5, 1.5, "ratio", 1.0, 0.9, 1.1, 1.05, Finding.UNDECIDED, "a | b\nand <b>more</b>"),
    Line("file size", "MB", 1.0, 1.0, "ratio", 1.0, 1.0, 1.0, None, Finding.REPORTED, ""),
)
TIMES = {"baseline_ms": (1.0, 1.1, 1.2), "candidate_ms": (1.1, 1.2, 1.3)}


def gate(**fields: object) -> Gate:
    return Gate("base", "new", "x86-cpu", "ssh://me@orin", LINES, **fields)  # type: ignore[arg-type]


def test_the_table_has_8_cells_in_each_of_5_rows() -> None:
    rows = [line for line in gate_markdown(gate(), None).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 3
    assert [len(re.split(r"(?<!\\)\|", row)) for row in rows] == [8 + 2] * 5  # an escaped bar is text
    assert "a \\| b and \\<b\\>more\\</b\\>" in rows[3]


def test_1_regressed_and_1_undecided_line_are_bold_and_the_verdict_is_the_title() -> None:
    text = gate_markdown(gate(), None)
    assert text.startswith("### ✗ compress gate: regressed\n\n**regressed: latency +8.00 %")
    assert (text.count("**✗ regressed**"), text.count("**? undecided**"), text.count("**·")) == (1, 1, 0)
    assert "for x86-cpu, on ssh://me@orin." in text
    assert text.endswith("\n")


def test_the_picture_is_4_lines_in_1_block_of_code_without_html_or_data() -> None:
    text = gate_markdown(gate(**TIMES), None)
    (block,) = re.findall(r"```text\n(.*?)```", text, re.S)
    assert len(block.splitlines()) == 4
    assert "█" in block
    assert [part for part in ("<svg", "<img", "data:", "![") if part in text] == []
    assert "```" not in gate_markdown(gate(), None)  # and none where nothing was timed


def test_the_link_to_the_drawn_picture_survives_2_spaces_and_a_bracket() -> None:
    assert "[The same, drawn](my%20out/x%20%281%29.svg)" in gate_markdown(gate(**TIMES), "my out/x (1).svg")
    assert "The same, drawn" not in gate_markdown(gate(**TIMES), None)


def test_2_remarks_are_2_items_on_a_line_each() -> None:
    text = gate_markdown(gate(remarks=("one\nline", "*two*")), None)
    assert text.endswith("- one line\n- \\*two\\*\n")
