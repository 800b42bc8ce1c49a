"""Equal answers, near ties and hops."""

import numpy as np

from pipeline.graph.compare import agreement, agreement_within_rounding
from pipeline.graph.parity import hops, unequal_allowed


def test_of_3_changed_answers_the_2_near_ties_are_not_clear() -> None:
    reference = np.array([[1.0, 0.99], [1.0, 0.9], [-1.0, -1.001], [1.0, -1.0]])  # size: 0.985
    candidate = reference[:, ::-1].copy()
    candidate[3] = reference[3]
    same = agreement(reference, candidate)
    assert same.equal_answers == 0.25
    assert same.clearly_unequal == 1  # a margin of 0.1; 0.01 and 0.001 are below a fiftieth of the size


def test_within_3_deviations_of_the_reference_s_own_rounding_another_class_is_no_clear_difference() -> None:
    draw = np.random.default_rng(0)
    exact = draw.normal(size=(500, 10))
    single, candidate = (exact + 0.1 * draw.normal(size=exact.shape) for _ in range(2))
    plain = agreement(exact, candidate)
    same = agreement_within_rounding(exact, candidate, single=single)
    assert plain.clearly_unequal > 5
    assert same.clearly_unequal <= 2  # of about 40 changed answers; three deviations leave 0.3 % of them
    assert same.rounding is not None
    assert np.isclose([same.rounding, same.typical], 0.1, rtol=0.05).all()


def test_a_form_that_is_off_by_3_times_the_rounding_gets_0_credit_for_it() -> None:
    draw = np.random.default_rng(0)
    exact = draw.normal(size=(500, 10))
    single = exact + 0.1 * draw.normal(size=exact.shape)
    candidate = exact + 0.3 * draw.normal(size=exact.shape)
    same = agreement_within_rounding(exact, candidate, single=single)
    assert same == agreement(exact, candidate)
    assert same.rounding is None


def test_3_forms_make_2_hops_and_a_form_of_another_shape_none() -> None:
    one, other = np.eye(4), np.eye(4)[::-1].copy()
    rows = hops([("teacher", one), ("engine", one), ("wrong", other), ("odd", np.eye(3))])
    assert [(row["from"], row["to"], row["equal_answers"]) for row in rows] == [
        ("teacher", "engine", 1.0),
        ("engine", "wrong", 0.0),
    ]


def test_3_of_3000_may_differ_and_1_of_any_few() -> None:
    assert [unequal_allowed(count, least_equal=0.999) for count in (3000, 1000, 850, 20)] == [3, 1, 1, 1]
