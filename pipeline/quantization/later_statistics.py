"""SciPy's statistics, imported when they are first used.

pytorch-quantization imports them for one of its calibrators, which nothing here calls; that is most of a second of
every run.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

NAME = "scipy.stats"


@contextmanager
def statistics_later() -> Iterator[None]:
    """Inside the block, `from scipy.stats import entropy` gives a function that imports SciPy when it is called."""
    if NAME in sys.modules:
        yield
        return
    placeholder = ModuleType(NAME)
    placeholder.entropy = entropy  # type: ignore[attr-defined]
    sys.modules[NAME] = placeholder
    try:
        yield
    finally:
        del sys.modules[NAME]


def entropy(*arguments: Any, **settings: Any) -> Any:
    """`scipy.stats.entropy`."""
    from scipy.stats import entropy as real  # type: ignore[import-untyped]

    return real(*arguments, **settings)
