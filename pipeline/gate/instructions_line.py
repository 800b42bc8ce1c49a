"""The line of a gate about instructions: what the witness without noise says of a pair of engines.

Instructions are a tripwire for a change of code path, and no latency. Where a count repeats to the instruction the
interval is a point; where it does not, it reaches from the candidate's least over the baseline's median to the reverse.
"""

from pipeline.gate.outcome import Finding, Line, finding_of, percent
from targets.engines.instructions import Counted

LIMIT = 1.005  # half a percent: two counts of one engine differ by less than 0.01 %
TRIPWIRE = "a tripwire for another code path, not a latency"
WHOSE = {
    "callgrind": "instructions of the runtime's own code",
    "perf events": "instructions, Python's part of a call among them,",
}


def instructions_line(baseline: Counted, candidate: Counted, *, limit: float | None) -> Line:
    """Candidate over baseline, counted by one witness; limit: such as 1.005, or None where nobody set one."""
    low = high = change = None
    if baseline.witness != candidate.witness:
        why = (
            f"Counts of {baseline.witness} and of {candidate.witness} cannot be compared: count both with one witness."
        )
    elif baseline.per_inference <= 0 or candidate.per_inference <= 0:
        why = f"{candidate.witness} counted no instruction of an engine, so nothing is known of its code path."
    else:
        change = candidate.per_inference / baseline.per_inference
        low = candidate.per_inference / _most(baseline)
        high = _most(candidate) / baseline.per_inference
        why = _told(baseline, candidate, change=change)
    finding = finding_of(low, high, limit=limit)
    if finding is Finding.REGRESSED:
        why += " The runtime does other work for the candidate: compare the operators and layers of both."
    return Line(
        "instructions", "instructions", float(baseline.per_inference), float(candidate.per_inference), "ratio",
        change, low, high, limit, finding, why,
    )  # fmt: skip


def _most(counted: Counted) -> int:
    """The most that another process could find as its least."""
    return counted.per_inference if counted.exact else counted.median


def _told(baseline: Counted, candidate: Counted, *, change: float) -> str:
    """The sentence for the reader."""
    first, second = (f"{each.per_inference:,}".replace(",", " ") for each in (baseline, candidate))
    counts = f"{candidate.witness} counted {first} and {second} {WHOSE[candidate.witness]} per inference"
    remarks = dict.fromkeys(each.remark for each in (baseline, candidate) if each.remark)
    limits = "".join(f" {each[0].upper()}{each[1:]}." for each in remarks)
    return f"{counts[0].upper()}{counts[1:]} ({percent(change)}): {TRIPWIRE}.{limits}"
