"""The JUnit file of a gate, parsed again: every count, every element, and text that XML cannot hold."""

from xml.etree import ElementTree

import pytest

from pipeline.gate.gate_junit import gate_junit
from pipeline.gate.outcome import Finding, Gate, Line


def line(name: str, finding: Finding, *, limit: float | None = 1.02, why: str = "Because.") -> Line:
    return Line(name, "ms", 1.0, 1.1, "ratio", 1.1, 1.05, 1.15, limit, finding, why)


GATE = Gate(
    "base", "new", "x86-cpu", None,
    (
        line("latency", Finding.REGRESSED), line("p50", Finding.FINE), line("p99", Finding.UNDECIDED),
        line("load time", Finding.UNDECIDED), line("peak memory", Finding.REPORTED, limit=None),
    ),
    process_ratios=(1.1,) * 6, turns=900, seconds=47.25, looks=2, looks_planned=5, smallest_seen=1.018,
)  # fmt: skip
# What Jenkins' junit-10.xsd takes, in its order: attributes that must be there, and what may stand within.
REQUIRED = {"testsuite": {"name", "tests", "failures", "errors"}, "testcase": {"name", "classname"}}
WITHIN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-out"},
    "properties": {"property"},
    "testcase": {"skipped", "error", "failure", "system-out"},
}


@pytest.mark.parametrize(
    ("undecided", "failures", "errors", "skipped"), [("undecided", 1, 2, 0), ("pass", 1, 0, 2), ("fail", 3, 0, 0)]
)
def test_4_lines_with_a_limit_are_4_cases_and_every_count_is_what_stands_there(
    undecided: str, failures: int, errors: int, skipped: int
) -> None:
    root = ElementTree.fromstring(gate_junit(GATE, undecided=undecided))
    (suite,) = root.findall("testsuite")
    assert [case.get("name") for case in suite.findall("testcase")] == ["latency", "p50", "p99", "load time"]
    wanted = {"tests": 4, "failures": failures, "errors": errors, "skipped": skipped}
    for name, count in wanted.items():
        element = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}[name]
        assert (suite.get(name), len(list(suite.iter(element)))) == (str(count), count)
        if name != "skipped":  # which testsuites does not have
            assert root.get(name) == str(count)
    times = [float(case.get("time", "nan")) for case in suite.findall("testcase")]
    assert (float(suite.get("time", "nan")), float(root.get("time", "nan")), sum(times)) == (47.25,) * 3


@pytest.mark.parametrize("undecided", ["undecided", "pass", "fail"])
def test_0_elements_stand_where_the_schema_has_no_place_for_them(undecided: str) -> None:
    root = ElementTree.fromstring(gate_junit(GATE, undecided=undecided))
    assert root.tag == "testsuites"
    for element in root.iter():
        assert {child.tag for child in element} <= WITHIN.get(element.tag, set())
        assert REQUIRED.get(element.tag, set()) <= set(element.attrib)
    (suite,) = root
    assert [child.tag for child in suite] == ["properties", *["testcase"] * 4, "system-out"]


def test_the_3rd_case_says_why_it_is_undecided_in_its_message_and_its_text() -> None:
    root = ElementTree.fromstring(gate_junit(GATE, undecided="pass"))
    (p99, _) = root.iter("skipped")
    said = "p99 +10.00 % (interval +5.00 … +15.00 %), at most +2 % is allowed. Because."
    assert (p99.get("message"), p99.text, p99.get("type")) == (said, said, "undecided")
    (failed,) = root.iter("failure")
    assert failed.get("type") == "regressed"


def test_the_1_line_without_a_limit_is_a_property_and_no_case() -> None:
    root = ElementTree.fromstring(gate_junit(GATE, undecided="fail"))
    told = {each.get("name"): each.get("value") for each in root.iter("property")}
    assert told["reported: peak memory"] == "1.000 → 1.100 ms, +10.00 % (+5.00 … +15.00 %)"
    assert (told["processes"], told["turns"], told["looks"], told["error rate"]) == ("6", "900", "2 of 5", "0.01")
    assert "device" not in told
    text = root.find("testsuite/system-out")
    assert text is not None
    assert text.text is not None
    assert "peak memory, ms" in text.text


def test_a_gate_without_1_judged_line_is_an_empty_suite() -> None:
    gate = Gate("base", "new", "x86-cpu", None, (line("latency", Finding.REPORTED, limit=None),))
    root = ElementTree.fromstring(gate_junit(gate, undecided="undecided"))
    assert (root.get("tests"), root.get("errors"), list(root.iter("testcase"))) == ("0", "0", [])


def test_6_kinds_of_hostile_text_come_back_as_they_were_but_for_what_xml_cannot_hold() -> None:
    hostile = '<b> & "it\'s" ]]> \x1b[31m \x00 \ud800 ünï 🙂'
    gate = Gate(hostile, "new", hostile, hostile, (line(hostile, Finding.REGRESSED, why=hostile),), remarks=(hostile,))
    text = gate_junit(gate, undecided="undecided")
    root = ElementTree.fromstring(text.encode("utf-8"))
    (case,) = root.iter("testcase")
    assert case.get("name") == '<b> & "it\'s" ]]> \ufffd[31m \ufffd \ufffd ünï 🙂'
    assert next(root.iter("property")).get("value") == case.get("name")


def test_an_answer_that_is_none_of_the_3_is_an_error_of_ours() -> None:
    with pytest.raises(KeyError, match="maybe"):
        gate_junit(GATE, undecided="maybe")
