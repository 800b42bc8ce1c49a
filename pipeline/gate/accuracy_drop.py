"""The accuracy line: both bundles' scores on the same evaluation inputs, paired input by input.

A bundle holds the score of its engine on every input of the test split, and the digest of the data. Where both have
the same data, these are compared; nothing is asked again, for an engine answers the same input the same way. Else a
file with inputs and labels must be given, and both engines answer it now.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataMissing, DataRefused
from pipeline.gate.outcome import Finding, Line, finding_of
from pipeline.gate.pair import Pair
from targets.accuracy import scores_of, top1
from targets.exact_drop import exact_drop_interval
from targets.intervals import paired_drop_interval
from targets.one_by_one import at_once

NAME = "accuracy"
ASKED_AT_ONCE = 64  # inputs, on this machine; a device gets them in one job


def accuracy_line(pair: Pair, *, limit: float | None, evaluation: Path | None, error_rate: float) -> Line:
    """The drop in points, baseline minus candidate, with its interval.

    limit: the most points that may be lost; None: reported · evaluation: an .npz file with inputs and labels

    Raises:
        DataMissing, DataRefused: the file cannot be read, or does not fit.
    """
    if evaluation is not None and not pair.target.is_here():
        finding = Finding.REPORTED if limit is None else Finding.UNDECIDED
        told = f"no {pair.target.name} was reached that could be asked. Name the device: --device ADDRESS."
        return Line(NAME, "%", None, None, "drop", None, None, None, limit, finding, told)
    if evaluation is not None:
        scores = _answered(pair, evaluation)
        source = f"both engines answered the {len(scores[0])} inputs of {evaluation.name} now"
    else:
        kept = [stored_scores(side.manifest) for side in pair.sides]
        digests = [(side.manifest.get("data") or {}).get("digest") for side in pair.sides]
        counts = [0 if each is None else len(each) for each in kept]
        if kept[0] is None or kept[1] is None:
            return _unknown("a bundle holds no scores", limit)
        if digests[0] != digests[1] or counts[0] != counts[1]:
            return _unknown("the bundles were evaluated on different data", limit)
        scores = (kept[0], kept[1])
        source = f"scores of both engines on the same {counts[0]} test inputs, as their bundles hold them"
    low, high = drop_interval(*scores, confidence=1 - error_rate)
    drop = 100 * (float(np.mean(scores[0])) - float(np.mean(scores[1])))
    differ = int((np.asarray(scores[0]) != np.asarray(scores[1])).sum())
    return Line(
        NAME, "%", 100 * float(np.mean(scores[0])), 100 * float(np.mean(scores[1])), "drop", drop, low,
        high, limit, finding_of(low, high, limit=limit),
        f"{source}; they differ on {differ}",
    )  # fmt: skip


def drop_interval(reference: Sequence[float], candidate: Sequence[float], *, confidence: float) -> tuple[float, float]:
    """Bounds of the drop in points: exact for right and wrong answers, by pairs for graded scores."""
    right, kept = np.asarray(reference), np.asarray(candidate)
    if not np.isin(right, (0.0, 1.0)).all() or not np.isin(kept, (0.0, 1.0)).all():
        graded = paired_drop_interval(reference, candidate, confidence=confidence)
        return graded.low, graded.high
    lost, won = int((right > kept).sum()), int((kept > right).sum())
    low, high = exact_drop_interval(lost, won, len(right), confidence=confidence)
    return 100 * low, 100 * high


def stored_scores(manifest: Mapping[str, Any]) -> tuple[float, ...] | None:
    """The engine's score on each test input, from the last row of the manifest; None where there are none."""
    try:
        told = manifest["stages"][-1]["measurement"]["accuracy"]
        scores = tuple(float(each) for each in told["scores"])
    except (LookupError, TypeError, ValueError):
        return None
    return scores or None


def _unknown(why: str, limit: float | None) -> Line:
    finding = Finding.REPORTED if limit is None else Finding.UNDECIDED
    told = f"{why}. Give --evaluation FILE.npz with inputs and labels: both engines are asked then."
    return Line(NAME, "%", None, None, "drop", None, None, None, limit, finding, told)


def _answered(pair: Pair, file: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not file.is_file():
        raise DataMissing(
            f"there is no file {file} for --evaluation. It holds two arrays: inputs (N, …) and labels (N)."
        )
    try:
        with np.load(file, allow_pickle=False) as stored:
            inputs, labels = stored["inputs"], stored["labels"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataRefused(
            f"{file} cannot be read ({error}). It must be an .npz file with the arrays inputs (N, …) and labels (N)."
        ) from error
    if any(side.manifest.get("classes", 1) == 0 for side in pair.sides):
        raise DataRefused(f"the answers of these networks name no class, so {file} cannot score them. Leave it out.")
    wanted = pair.inputs.shape[1:]
    if inputs.shape[1:] != wanted or len(inputs) != len(labels) or len(inputs) == 0:
        raise DataRefused(
            f"{file} holds inputs of shape {inputs.shape} and labels of shape {labels.shape}; the engines take inputs "
            f"of shape (N, {', '.join(map(str, wanted))}), with a label each."
        )
    if not np.isfinite(inputs).all():
        raise DataRefused(f"{file} holds inputs that are not finite numbers. Remove them from the file.")
    scores = []
    for side in pair.sides:
        with closing(side.engine.open(side.path, threads=pair.threads)) as ask:
            batch = at_once(ask, ASKED_AT_ONCE, shape=wanted)
            scores.append(scores_of(ask, inputs.astype(pair.inputs.dtype), labels, metric=top1, batch=batch).scores)
    return scores[0], scores[1]
