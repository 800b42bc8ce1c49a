"""Is the network of an engine beyond the accuracy budget for certain? Then it is not handed over, however fast it is.

An engine answers what its torch network answers, which is checked elsewhere (same_answers.py), so the network's score
is the engine's. It is held against the budget as the verdict is in the end: paired with the teacher, and beyond it only
where the whole interval is; but on the validation split, for what is chosen by test inputs cannot be judged by them.
"""

from pipeline.data.dataset import Split
from pipeline.stage import Run
from pipeline.stages.rivals import Rival
from pipeline.stages.same_answers import Parity
from targets.intervals import paired_drop_interval


def over_budget(rival: Rival, run: Run, parity: Parity, *, split: Split, most_points: float | None) -> str:
    """By how much its network is beyond the budget; "" where it is not for certain, or there is none.

    split: of validation inputs · most_points: of accuracy that may be lost, or None
    """
    if most_points is None or run.teacher is None:
        return ""
    teacher, ours = (parity.scores(split, origin) for origin in (run.teacher, rival.origin))
    drop = paired_drop_interval(teacher.tolist(), ours.tolist())
    if drop.low <= most_points:
        return ""
    lost = 100 * float(teacher.mean() - ours.mean())
    return (
        f"beyond the accuracy budget: its network loses {lost:.2f} points (at least {drop.low:.2f}), and "
        f"{most_points:g} are allowed"
    )
