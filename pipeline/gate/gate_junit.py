"""What a gate found as JUnit XML, which every CI shows: a test case per line that has a limit.

The form is Jenkins' (junit-10.xsd of its xUnit plug-in), which GitLab and the actions for GitHub read as well:

    <testsuites tests failures errors time>
      <testsuite name tests failures errors skipped time>
        <properties>   what was compared and how, and the lines without a limit
        <testcase classname name time>   <failure> regressed, <skipped> or <error> or <failure> undecided
        <system-out>   the gate's answer as text
"""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from pipeline.gate.gate_text import gate_text
from pipeline.gate.gate_words import change_words, interval_words, is_judged, line_sentence, value_words
from pipeline.gate.outcome import Finding, Gate, Line

# XML 1.0, section 2.2: what a document may hold. Nothing can escape the others.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What an undecided line becomes, by what the user makes of it.
ELEMENTS = {"undecided": "error", "pass": "skipped", "fail": "failure"}


def gate_junit(gate: Gate, *, undecided: str) -> str:
    """The file's text.

    undecided: undecided (an error), pass (skipped) or fail (a failure), as the gate's exit code has it
    """
    judged = [line for line in gate.lines if is_judged(line)]
    found = [_element(line, undecided) for line in judged]
    counts = {
        "tests": str(len(judged)),
        "failures": str(found.count("failure")),
        "errors": str(found.count("error")),
    }
    took = f"{gate.seconds:.3f}"
    whole = ElementTree.Element("testsuites", {"name": "compress gate", **counts, "time": took})
    skipped = str(found.count("skipped"))
    suite = ElementTree.SubElement(
        whole, "testsuite", {"name": "compress gate", **counts, "skipped": skipped, "time": took}
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(gate):
        ElementTree.SubElement(properties, "property", {"name": name, "value": _legal(value)})
    for place, (line, element) in enumerate(zip(judged, found, strict=True)):
        # One measurement feeds all lines: its time stands at the first, so that the sum over the cases is right.
        about = {"classname": _legal(f"compress.gate.{gate.target}"), "name": _legal(line.name)}
        case = ElementTree.SubElement(suite, "testcase", {**about, "time": took if place == 0 else "0.000"})
        said = _legal(line_sentence(line))
        if element:
            problem = ElementTree.SubElement(case, element, {"type": line.finding.value, "message": said})
            problem.text = said  # GitLab shows the text and not the message
        else:
            ElementTree.SubElement(case, "system-out").text = said
    ElementTree.SubElement(suite, "system-out").text = _legal(gate_text(gate))
    ElementTree.indent(whole)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(whole, encoding="unicode") + "\n"


def _element(line: Line, undecided: str) -> str:
    """The element that stands in the line's test case; empty where it passed."""
    if line.finding is Finding.REGRESSED:
        return "failure"
    return ELEMENTS[undecided] if line.finding is Finding.UNDECIDED else ""


def _properties(gate: Gate) -> Iterator[tuple[str, str]]:
    yield "baseline", gate.baseline
    yield "candidate", gate.candidate
    yield "target", gate.target
    if gate.device is not None:
        yield "device", gate.device
    yield "processes", str(len(gate.process_ratios))
    yield "turns", str(gate.turns)
    yield "looks", f"{gate.looks} of {gate.looks_planned}"
    yield "error rate", f"{gate.error_rate:g}"
    if gate.smallest_seen is not None:
        yield "smallest slow-down that would have been found", f"{100 * (gate.smallest_seen - 1):.2f} %"
    for line in gate.lines:
        if not is_judged(line):
            values = f"{value_words(line.baseline)} → {value_words(line.candidate)} {line.unit}"
            yield f"reported: {line.name}", f"{values}, {change_words(line)} ({interval_words(line)})"


def _legal(text: str) -> str:
    return FORBIDDEN.sub("\ufffd", text)
