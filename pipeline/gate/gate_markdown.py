"""What a gate found, for a pull request or a job's summary: GitHub's and GitLab's Markdown, without a picture file."""

from urllib.parse import quote

from pipeline.gate.gate_picture import distribution_text
from pipeline.gate.gate_words import (
    SIGNS,
    change_words,
    interval_words,
    limit_words,
    name_words,
    value_words,
    verdict_words,
)
from pipeline.gate.outcome import Finding, Gate, Line
from pipeline.report_markdown import escaped

HEAD = ("", "baseline", "candidate", "change", "interval", "limit", "finding", "why")
SIDES = ("---", "---:", "---:", "---:", "---:", "---:", "---", "---")


def gate_markdown(gate: Gate, picture: str | None) -> str:
    """The whole summary, ending in a line break.

    picture: where the SVG of both distributions lies, seen from the Markdown file; None: it was not written
    """
    where = f"{gate.target}, on {gate.device}" if gate.device else gate.target
    written = [
        f"### {SIGNS[gate.finding]} compress gate: {gate.finding.value}",
        f"**{escaped(verdict_words(gate))}**",
        f"{escaped(gate.candidate)} against {escaped(gate.baseline)}, for {escaped(where)}.",
        _table(gate.lines),
    ]
    drawn = distribution_text(gate.baseline_ms, gate.candidate_ms)
    if drawn:
        written.append(f"Wall times of one inference; the same height is the same share:\n\n```text\n{drawn}```")
        if picture is not None:
            written.append(f"[The same, drawn]({quote(picture)})")
    if gate.remarks:
        written.append("\n".join(f"- {escaped(remark)}" for remark in gate.remarks))
    return "\n\n".join(written) + "\n"


def _table(lines: tuple[Line, ...]) -> str:
    rows = [HEAD, SIDES, *(_cells(line) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(line: Line) -> tuple[str, ...]:
    finding = f"{SIGNS[line.finding]} {line.finding.value}"
    loud = line.finding in (Finding.REGRESSED, Finding.UNDECIDED)
    said = (
        name_words(line), value_words(line.baseline), value_words(line.candidate), change_words(line),
        interval_words(line), limit_words(line),
    )  # fmt: skip
    return (*(escaped(each) for each in said), f"**{finding}**" if loud else finding, escaped(line.why))
