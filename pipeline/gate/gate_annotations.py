"""What a gate found as workflow commands of GitHub Actions, which it shows on the run and on the pull request.

docs.github.com/actions/reference/workflow-commands-for-github-actions, "Setting an error message":

    ::error title={title}::{message}

The escapes are those of GitHub's own @actions/core (packages/core/src/command.ts): in a message % CR LF, in a property
: and , too. Ten of each kind are shown per step; a gate has fewer lines than that.
"""

from pipeline.gate.gate_words import is_judged, line_sentence, verdict_words
from pipeline.gate.outcome import Finding, Gate

DATA = (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"))  # the percent sign first: the others bring one
PROPERTY = (*DATA, (":", "%3A"), (",", "%2C"))


def annotations(gate: Gate, *, undecided: str) -> str:
    """A line per regressed and undecided line of the gate, and one with the verdict.

    undecided: undecided or fail (errors: the step fails of it) or pass (warnings)
    """
    kinds = {
        Finding.REGRESSED: "error",
        Finding.UNDECIDED: {"undecided": "error", "fail": "error", "pass": "warning"}[undecided],
    }
    told = [
        _command(kinds[line.finding], about=f"{line.name} {line.finding.value}", says=line_sentence(line))
        for line in gate.lines
        if is_judged(line) and line.finding in kinds
    ]
    says = "\n".join([verdict_words(gate), *gate.remarks])
    told.append(_command("notice", about=gate.finding.value, says=says))
    return "".join(told)


def _command(kind: str, *, about: str, says: str) -> str:
    return f"::{kind} title={_escaped(f'compress gate: {about}', PROPERTY)}::{_escaped(says, DATA)}\n"


def _escaped(text: str, changes: tuple[tuple[str, str], ...]) -> str:
    for what, change in changes:
        text = text.replace(what, change)
    return text
