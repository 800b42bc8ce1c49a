"""What a terminal shows of a gate, by hand: the sentence, the rows, and the width."""

import pytest

from pipeline.gate.gate_text import WIDTH, gate_text
from pipeline.gate.gate_words import change_words, interval_words, limit_words, line_sentence, verdict_words
from pipeline.gate.outcome import Finding, Gate, Line

LATENCY = Line(
    "latency", "ms", 1.2345, 1.273, "ratio", 1.0312, 1.0241, 1.038, 1.02, Finding.REGRESSED,
    "The whole interval lies above what is allowed.",
)  # fmt: skip
SIZE = Line("file size", "MB", 0.75, 0.75, "ratio", 1.0, 1.0, 1.0, 1.01, Finding.FINE, "The files are equally large.")
P99 = Line("p99", "ms", 1.5, 1.53, "ratio", 1.02, None, 1.06, None, Finding.REPORTED, "Nobody set a limit.")
ACCURACY = Line(
    "accuracy", "%", 90.0, 89.5, "drop", 0.5, 0.1, 0.9, 0.5, Finding.UNDECIDED, "Too few answers differ. " * 12
)


def gate(*lines: Line, **fields: object) -> Gate:
    about = {"process_ratios": (1.03,) * 8, "seconds": 61.2, "smallest_seen": 1.026, **fields}
    return Gate("baselines/main.json", "compressed/x", "x86-cpu", None, lines, **about)  # type: ignore[arg-type]


def test_the_sentence_holds_the_7_figures_of_a_regression() -> None:
    said = verdict_words(gate(LATENCY, SIZE))
    wanted = ("regressed: latency", "+3.12 %", "+2.41 … +3.80 %", "+2 %", "8 processes", "61 s", "2.60 %")
    assert [part for part in wanted if part not in said] == []
    assert said.count(".") == 5  # of the five decimal figures, and the one at its end: it is one sentence
    assert said.endswith("runs.")


def test_2_lines_that_regressed_are_both_named() -> None:
    worse = Line("file size", "MB", 1.0, 1.5, "ratio", 1.5, 1.5, 1.5, 1.01, Finding.REGRESSED, "")
    assert "; also regressed: file size" in verdict_words(gate(LATENCY, worse))
    assert "also" not in verdict_words(gate(LATENCY, SIZE))


def test_a_line_that_decided_is_told_though_it_is_the_2nd() -> None:
    fine = Line("latency", "ms", 1.0, 1.0, "ratio", 1.0, 0.99, 1.01, 1.02, Finding.FINE, "")
    assert verdict_words(gate(fine, ACCURACY)).startswith(
        "undecided: accuracy +0.50 points (interval +0.10 … +0.90 points), at most 0.5 points is allowed"
    )


def test_0_processes_and_no_smallest_regression_are_left_out() -> None:
    unknown = Line("latency", "ms", None, None, "ratio", None, None, None, 1.02, Finding.UNDECIDED, "Only numbers.")
    said = verdict_words(gate(unknown, process_ratios=(), smallest_seen=None, seconds=0.0))
    assert said == "undecided: latency is not known, at most +2 % is allowed."


def test_a_gate_without_1_limit_says_so() -> None:
    assert verdict_words(gate(P99, process_ratios=(), smallest_seen=None)) == "fine: no line has a limit."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (1.0312, "+3.12 %"),
        (0.9, "-10.00 %"),
        (1.0, "0.00 %"),
        (0.1 + 0.9, "0.00 %"),
        (1 + 3 / 12_345_678, "+0.00002 %"),  # 0.0000243 %: one digit, where two decimals would show nothing
        (1 - 3 / 12_345_678, "-0.00002 %"),
        (1.00005, "+0.01 %"),
    ],
)
def test_a_change_of_3_in_12_million_instructions_is_not_shown_as_0(change: float, words: str) -> None:
    line = Line(
        "instructions", "instructions", 1.0, change, "ratio", change, change, change, None, Finding.REPORTED, ""
    )
    assert change_words(line) == words
    assert interval_words(line) == "exact"


@pytest.mark.parametrize(
    ("why", "end"),
    [
        ("Above it.", "is allowed. Above it."),
        ("by process time,\n8 processes", "is allowed; by process time, 8 processes."),
        ("", "is allowed."),
    ],
)
def test_each_of_3_reasons_makes_a_whole_sentence(why: str, end: str) -> None:
    line = Line("latency", "ms", 1.0, 1.0, "ratio", 1.0, 1.0, 1.0, 1.02, Finding.FINE, why)
    assert line_sentence(line) == f"latency 0.00 % (exact), at most +2 % {end}"


def test_an_end_that_is_not_known_is_open_and_a_limit_of_1_is_0_percent() -> None:
    assert interval_words(P99) == "open … +6.00 %"
    assert limit_words(P99) == "–"
    zero = Line("latency", "ms", 1.0, 1.0, "ratio", 1.0, 1.0, 1.0, 1.0, Finding.FINE, "")
    assert limit_words(zero) == "0 %"
    assert limit_words(LATENCY) == "+2 %"
    point = Line("accuracy", "%", 90.0, 90.0, "drop", 0.0, 0.0, 0.0, 1.0, Finding.FINE, "")
    assert (limit_words(point), change_words(point)) == ("1 point", "0.00 points")


def test_the_4_rows_are_aligned_and_no_line_is_wider_than_110() -> None:
    text = gate_text(gate(LATENCY, SIZE, P99, ACCURACY, remarks=("The machine was busy. " * 10,)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH == 110
    head = next(line for line in lines if line.split()[:2] == ["baseline", "candidate"])
    rows = [line for line in lines if line.startswith(("latency, ms", "file size, MB", "p99, ms", "accuracy, %"))]
    assert len(rows) == 4
    for column in ("baseline", "candidate", "change", "interval", "limit"):  # right-aligned: the figures end with it
        end = head.index(column) + len(column)
        assert [row[end : end + 2].strip() for row in rows] == [""] * 4
        assert [row[end - 1] for row in rows if row[end - 1] == " "] == []
    marks = ("✗ regressed", "✓ fine", "· reported", "? undecided")
    assert [row[head.index("finding") :] for row in rows] == list(marks)
    assert text.endswith("\n")
    assert "    Nobody set a limit.\n" in text


def test_a_number_that_is_not_known_leaves_a_dash_in_1_cell() -> None:
    unknown = Line("peak memory", "MB", None, 12.0, "ratio", None, None, None, None, Finding.REPORTED, "")
    (row,) = [line for line in gate_text(gate(LATENCY, unknown)).splitlines() if line.startswith("peak memory")]
    assert row.split() == ["peak", "memory,", "MB", "–", "12.00", "–", "–", "–", "·", "reported"]
