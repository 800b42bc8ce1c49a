"""The section on layers in float and in integers: its numbers are those of the manifest."""

from typing import Any

import pytest

from pipeline.report_blocks import Mark, Section, Story, Table
from pipeline.report_markdown import markdown_from
from pipeline.report_page import page_from
from pipeline.report_precision import MOST_ROWS, precision


def row(*layers: str, quantized: float | None, floating: float = 0.5, is_float: bool = False) -> dict[str, Any]:
    return {
        "layers": list(layers), "error_alone_quantized": quantized, "error_alone_float": floating,
        "score_alone_float": 0.9, "price": 0.25, "float": is_float,
    }  # fmt: skip


def facts(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "allowed_drop_points": 1.0, "float_score": 0.975, "quantized_score": 0.9, "score": 0.97, "met": True,
        "rows": list(rows), "tested": [[["b"], 0.95, 0.01], [["b", "c"], 0.97, 0.004]], "samples": 128, "unit": "ms",
        "prices": "made up", "error": 0.3, **fields,
    }  # fmt: skip


def section_of(found: dict[str, Any]) -> Section:
    section = precision({"stages": [{"facts": {}}, {"facts": {"precision": found}}]})
    assert section is not None
    return section


def test_3_rows_stand_with_the_float_ones_first_and_then_the_costliest() -> None:
    section = section_of(
        facts(row("a", quantized=0.02), row("b", quantized=0.01, is_float=True), row("c", quantized=0.04))
    )
    said, table, _, tested, _ = section.parts
    assert "7.50 points are lost, and 1 are allowed" in str(said)
    assert "the score is 97.00\u202f%. That is within the limit." in str(said)
    assert isinstance(table, Table)
    assert [line[0] for line in table.rows] == ["b", "c", "a"]
    assert table.rows[0] == ("b", "1.00\u202f%", "50.0\u202f%", "0.250\u202fms", "float")
    assert table.rows[1][4] == Mark("integer", "integer")
    assert isinstance(tested, Table)
    assert tested.rows == (("1", "b", "95.00\u202f%", "+1.00"), ("2", "b and c", "97.00\u202f%", "+0.40"))


def test_of_more_than_40_rows_the_rest_is_1_line() -> None:
    rows = [row(f"l{place}", quantized=place / 1000) for place in range(MOST_ROWS + 3)]
    table = section_of(facts(*rows, unit="MACs")).parts[1]
    assert isinstance(table, Table)
    assert len(table.rows) == MOST_ROWS + 1
    assert table.rows[-1][:2] == ("3 more", "up to 0.200\u202f%")
    assert table.rows[0][3] == "0\u202fMACs"


@pytest.mark.parametrize(("met", "words"), [(True, "No layer had to go back to float."), (False, "1 are allowed.")])
def test_without_rows_1_sentence_is_left(met: bool, words: str) -> None:
    parts = section_of(facts(met=met, tested=[])).parts
    assert len(parts) == 1
    assert str(parts[0]).endswith(words)


def test_a_mix_that_misses_its_limit_and_an_error_that_is_no_number_are_told_in_both_forms() -> None:
    section = section_of(facts(row("a|b", quantized=None), met=False, tested=[[[], 0.9, 0.1]]))
    story = Story("t", "met", "l", (), (section,), "f")
    for told in (markdown_from(story), page_from(story)):
        assert "The limit is missed all the same." in told
        assert "None" not in told


def test_a_run_in_which_0_layers_were_looked_at_has_no_such_section() -> None:
    assert precision({"stages": [{"facts": {}}]}) is None
