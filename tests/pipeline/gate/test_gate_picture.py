"""Both pictures of two distributions: characters counted by hand, and an SVG that stands alone."""

from xml.etree import ElementTree

import numpy as np

from pipeline.gate.gate_picture import BLOCKS, CELLS, distribution_svg, distribution_text


def rows_of(text: str, *, wide: int) -> list[str]:
    """The two rows of blocks, without their names, as wide as the axis."""
    return [line[wide:].ljust(CELLS) for line in text.splitlines()[:2]]


def test_2_of_4_equal_times_are_half_as_high_as_4_of_4() -> None:
    # From 0 to 64 in 64 cells: 0.5 lies in cell 0 and 63.5 in cell 63. The baseline has one half in each, the
    # candidate all in cell 32; the highest cell is 8/8, a half of it 4/8.
    text = distribution_text([0.0, 0.0, 64.0, 64.0], [32.0] * 4)
    baseline, candidate = rows_of(text, wide=len("candidate") + 2)
    assert (baseline[0], baseline[63], baseline[1:63].strip()) == (BLOCKS[4], BLOCKS[4], "")
    assert (candidate[32], candidate.strip()) == (BLOCKS[8], BLOCKS[8])


def test_1_time_of_1000_still_has_a_mark() -> None:
    text = distribution_text([1.0] * 999 + [1.5], [2.0] * 1000)
    baseline, _ = rows_of(text, wide=11)
    assert baseline.count(BLOCKS[1]) == 1


def test_the_shares_of_both_rows_lie_in_the_cells_a_slow_count_puts_them_in() -> None:
    random = np.random.default_rng(3)
    both = [list(random.uniform(1.0, 2.0, 300)), list(random.uniform(1.2, 2.2, 200))]
    text = distribution_text(*both)
    # As histogram_range says: from the least to where 995 of 1 000 of the slower one end.
    low = min(both[0] + both[1])
    high = max(sorted(each)[int(np.ceil(0.995 * len(each))) - 1] for each in both)
    counted = [
        [sum(min(int((t - low) / (high - low) * CELLS), CELLS - 1) == cell for t in each) / len(each)
         for cell in range(CELLS)]
        for each in both
    ]  # fmt: skip
    highest = max(counted[0] + counted[1])
    for row, shares in zip(rows_of(text, wide=11), counted, strict=True):
        for shown, share in zip(row, shares, strict=True):
            assert abs(BLOCKS.index(shown) - 8 * share / highest) <= 1.0  # it is rounded up
            assert (shown == " ") == (share == 0)


def test_the_axis_names_3_round_figures_where_they_lie() -> None:
    text = distribution_text([1.0, 1.6], [1.2, 1.4], unit="ms")
    axis, figures = text.splitlines()[2:]
    assert axis.endswith(("─ ms", "┴ ms"))
    # From 1.0 to 1.6 in 64 cells: 1.2 lies in cell 21 and 1.4 in cell 42.
    assert (axis[11 + 21], axis[11 + 42]) == ("┴", "┴")
    assert figures.split()[:3] == ["1", "1.2", "1.4"] or figures.split()[:3] == ["1", "1.1", "1.2"]
    assert figures.index("1.2") == 11 + 21 - 1  # centred below its mark


def test_times_a_factor_of_100_apart_share_a_logarithmic_axis() -> None:
    text = distribution_text([1.0] * 50, [100.0] * 50)
    baseline, candidate = rows_of(text, wide=11)
    assert (baseline[0], candidate[63]) == (BLOCKS[8], BLOCKS[8])
    assert "10" in text.splitlines()[3].split()


def test_equal_times_and_1_time_alone_are_drawn_too() -> None:
    assert BLOCKS[8] in distribution_text([1.0] * 5, [1.0] * 5)
    assert BLOCKS[8] in distribution_text([0.0], [0.0])


def test_0_times_make_no_picture() -> None:
    assert distribution_text([], [1.0]) == distribution_text([1.0], []) == ""
    assert distribution_svg([], [1.0]) == ""


def test_the_svg_is_a_file_of_its_own_with_2_names_2_colours_and_2_schemes() -> None:
    svg = distribution_svg([1.0, 1.1, 1.2], [1.1, 1.2, 1.3], names=("<old>", "new & slow"))
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<old>", "new & slow"} <= set(texts)
    style = root.find("{http://www.w3.org/2000/svg}style")
    assert style is not None
    assert style.text is not None
    classes = {name for each in root.iter() for name in each.get("class", "").split()}
    assert [name for name in classes if f".{name} {{" not in style.text] == []  # nothing relies on a page
    assert {"accent", "other"} <= classes
    assert style.text.count("prefers-color-scheme: dark") == 1
    assert "var(" not in svg
