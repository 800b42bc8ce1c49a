"""A file that callgrind wrote: how many instructions were counted, and in which object files.

The format is documented with valgrind ("Callgrind Format Specification"). What is read of it:

    ob=(1) /usr/lib/libc.so.6      from here on costs are of this object; the name is given once, later (1) alone
    cob=(2) /usr/lib/libm.so.6     the object of a function that is called; gives a name only
    16 400                         400 instructions at line 16
    calls=3 50                     the next line is the cost of what was called, which stands elsewhere too
    16 1200
    totals: 400
"""

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from targets.errors import EngineFailed

OBJECT = re.compile(r"(c?ob)=\((\d+)\)(?: (.*))?")
COST = re.compile(r"[0-9+*-]\S*(?: (\d+))?")  # a cost of nought may be left out


def instructions_by_object(path: Path) -> dict[str, int]:
    """Object file → instructions counted in it.

    Raises:
        EngineFailed: there is no such file, or it is not whole.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise EngineFailed(f"Callgrind left no count at {path} ({error.strerror}).") from error
    counted: Counter[str] = Counter()
    names: dict[str, str] = {}
    inside, total, of_a_call = "", None, False
    for line in lines:
        if found := OBJECT.fullmatch(line):
            kind, number, name = found.groups()
            names.setdefault(number, name or "")
            inside = names[number] if kind == "ob" else inside
        elif line.startswith("calls="):
            of_a_call = True
        elif line.startswith("totals:"):
            total = int(line.split()[1])
        elif cost := COST.fullmatch(line):
            counted[inside] += 0 if of_a_call else int(cost[1] or 0)
            of_a_call = False
    if total is None or counted.total() != total:
        raise EngineFailed(f"The count of callgrind in {path} is not whole: {counted.total()} of {total} instructions.")
    return dict(counted)


def instructions_besides(path: Path, *, others: Collection[str]) -> int:
    """Those counted elsewhere than in these object files: also in code that stands in no file, made while it ran."""
    return sum(count for name, count in instructions_by_object(path).items() if name not in others)
