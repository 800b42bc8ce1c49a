"""What a gate says of two counts of instructions."""

import dataclasses

import pytest

from pipeline.gate.instructions_line import LIMIT, instructions_line
from pipeline.gate.outcome import Finding
from targets.engines.instructions import Counted

BASELINE = Counted(1_000_000, 1_000_000, "callgrind", 5, exact=True)


def counted(instructions: int, **changed: object) -> Counted:
    return dataclasses.replace(BASELINE, per_inference=instructions, median=instructions, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("instructions", "finding"),
    [
        (1_000_000, Finding.FINE),
        (1_005_000, Finding.FINE),
        (1_005_001, Finding.REGRESSED),
        (900_000, Finding.FINE),
    ],
)
def test_1_instruction_in_a_million_beyond_half_a_percent_is_regressed(instructions: int, finding: Finding) -> None:
    line = instructions_line(BASELINE, counted(instructions), limit=LIMIT)
    assert line.finding is finding
    assert line.low == line.high == line.change == instructions / 1_000_000
    assert (line.name, line.unit, line.nature, line.limit) == ("instructions", "instructions", "ratio", 1.005)
    assert "not a latency" in line.why


def test_without_a_limit_2_percent_more_is_reported_with_both_counts() -> None:
    line = instructions_line(BASELINE, counted(1_020_000), limit=None)
    assert line.finding is Finding.REPORTED
    assert "1 000 000 and 1 020 000" in line.why
    assert "+2.00 %" in line.why


def test_a_count_that_does_not_repeat_has_an_interval_from_its_least_to_its_median() -> None:
    candidate = Counted(1_004_000, 1_006_000, "callgrind", 5, exact=False)
    baseline = Counted(1_000_000, 1_002_000, "callgrind", 5, exact=False)
    line = instructions_line(baseline, candidate, limit=LIMIT)
    # By hand: 1 004 000 / 1 002 000 and 1 006 000 / 1 000 000; 1e-12 for the rounding of one division.
    assert line.low == pytest.approx(1.001996007984, abs=1e-12)
    assert line.high == pytest.approx(1.006, abs=1e-12)
    assert line.finding is Finding.UNDECIDED


def test_counts_of_2_witnesses_are_undecided_and_never_divided() -> None:
    line = instructions_line(BASELINE, counted(1_000_000, witness="perf events"), limit=LIMIT)
    assert line.finding is Finding.UNDECIDED
    assert (line.change, line.low, line.high) == (None, None, None)
    assert "one witness" in line.why


def test_a_count_of_0_instructions_is_undecided_and_says_that_nothing_was_counted() -> None:
    for pair in ((counted(0), BASELINE), (BASELINE, counted(0))):
        line = instructions_line(*pair, limit=LIMIT)
        assert line.finding is Finding.UNDECIDED
        assert "no instruction" in line.why


def test_a_remark_that_both_counts_carry_is_told_1_time() -> None:
    remark = "counted with one thread, the engine uses 2"
    line = instructions_line(counted(1_000_000, remark=remark), counted(1_000_000, remark=remark), limit=LIMIT)
    assert line.why.count("ounted with one thread") == 1
    assert line.finding is Finding.FINE
