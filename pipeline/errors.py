"""What can go wrong in `pipeline`, in words for the person who started the run.

PipelineError             the command ends with this class's `exit_code`
├── UsageRefused          a flag or a combination of flags makes no sense
├── DataMissing           a file or folder of data is not there
├── DataRefused           data is there, and cannot be used
├── CheckpointRefused     a file of weights cannot be read, or does not fit the network
├── RecipeRefused         a recipe does not exist, or its stages do not fit
├── TeacherRefused        the teacher does not answer as a teacher must
├── NetworkRefused        a network does not take the data, or cannot be traced or exported
├── OutRefused            a folder cannot be written: read-only, full, or in use by another run
├── BundleRefused         a bundle is incomplete or damaged
│   └── OnlyNumbers       where a bundle should be lies a stored measurement, and no engine
├── StageFailed           a stage stopped before its result was complete
└── PeerLost              another process of the run has stopped

A message says what, where and what to do, in one or two plain sentences.
"""

import difflib
from collections.abc import Iterable


class PipelineError(Exception):
    """An error that is explained by its message alone; it is printed without a traceback."""

    exit_code: int = 2  # wrong usage or bad input


class UsageRefused(PipelineError):
    """A flag or a combination of flags makes no sense."""


class DataMissing(PipelineError):
    """A file or folder of data is not there."""


class DataRefused(PipelineError):
    """Data is there, and cannot be used."""


class CheckpointRefused(PipelineError):
    """A file of weights cannot be read, or does not fit the network."""


class RecipeRefused(PipelineError):
    """A recipe does not exist, or its stages do not fit."""


class TeacherRefused(PipelineError):
    """The teacher does not answer as a teacher must."""


class NetworkRefused(PipelineError):
    """A network does not take the data, or cannot be traced or exported."""


class OutRefused(PipelineError):
    """A folder cannot be written: read-only, full, or in use by another run."""


class BundleRefused(PipelineError):
    """A bundle is incomplete or damaged."""


class OnlyNumbers(BundleRefused):
    """Where a bundle should be lies a stored measurement, and no engine that could be measured again."""


class StageFailed(PipelineError):
    """A stage stopped before its result was complete."""


class PeerLost(PipelineError):
    """Another process of the run has stopped."""


def nearest(name: str, names: Iterable[str], *, kind: str) -> str:
    """The sentence for a name that does not exist: the closest one that does, and the list of all.

    >>> nearest("digit", ["digits", "fashion"], kind="recipe")
    "unknown recipe 'digit'. Did you mean 'digits'? There are: digits, fashion."
    """
    known = sorted(names)
    if not known:
        return f"unknown {kind} {name!r}. There are none."
    by_lower_case = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    hint = f" Did you mean {by_lower_case[close[0]]!r}?" if close else ""
    return f"unknown {kind} {name!r}.{hint} There are: {', '.join(known)}."
