"""FastestDet on the photographs of COCO128: its boxes read from its answer, and their average precision.

FastestDet (Ma 2022, github.com/dog-qiuqiu/FastestDet, BSD-3) answers one vector for each of 22×22 cells of a picture:

    p      whether an object's middle lies in the cell
    x y    of the middle, as tanh in cells from the corner of this one
    w h    of the box, as sigmoid in pictures
    c₁ … c₈₀   the probability of each class; the score of a box of it is p · c

Boxes of one class that overlap a better one by more than 0.45 are dropped. Average precision as COCO's at an overlap of
half: precision, made monotone, at 101 recalls; the mean over the classes that there are.

Letters: N pictures, M boxes; a box is left, top, right, bottom in shares of the picture.
"""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
SIDE, CELLS, CLASSES = 352, 22, 80
OVERLAP_KEPT, OVERLAP_RIGHT = 0.45, 0.5
LEAST_SCORE = 0.001
MOST = 1000  # boxes of one picture, before those that overlap are dropped


@dataclass(frozen=True, eq=False)
class Boxes:
    """corners (M, 4), classes (M,), scores (M,): of a truth 1."""

    corners: NDArray[np.float64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]


def pictures_in(tar: Path) -> dict[str, Image.Image]:
    """Name → picture, in the order of the names."""
    found = {}
    with tarfile.open(tar) as archive:
        for member in sorted(archive.getmembers(), key=lambda each: each.name):
            file = archive.extractfile(member) if member.name.endswith(".jpg") else None
            if file is not None:
                found[Path(member.name).stem] = Image.open(io.BytesIO(file.read())).convert("RGB")
    return found


def truths_in(tar: Path, names: list[str]) -> list[Boxes]:
    """The boxes of each picture; none where there is no file of them."""
    with tarfile.open(tar) as archive:
        texts = {
            Path(member.name).stem: file.read().decode()
            for member in archive.getmembers()
            if "/object_detection/labels/" in f"/{member.name}" and (file := archive.extractfile(member)) is not None
        }
    found = []
    for name in names:
        rows = np.array([line.split() for line in texts.get(name, "").splitlines()], np.float64).reshape(-1, 5)
        found.append(Boxes(corners_from(rows[:, 1:]), rows[:, 0].astype(np.int64), np.ones(len(rows))))
    return found


def kept_truths(truths: list[Boxes]) -> NDArray[np.float64]:
    """The boxes of all pictures as one array (M, 6): picture, class, corners."""
    rows = [np.column_stack([np.full(len(each.classes), place), each.classes, each.corners])
            for place, each in enumerate(truths)]  # fmt: skip
    return np.concatenate(rows).reshape(-1, 6)


def truths_from(kept: NDArray[np.float64], *, pictures: int) -> list[Boxes]:
    """The boxes of each of so many pictures, from that array."""
    found = []
    for place in range(pictures):
        rows = kept[kept[:, 0] == place]
        found.append(Boxes(rows[:, 2:], rows[:, 1].astype(np.int64), np.ones(len(rows))))
    return found


def map50_of(answers: Floats, truths: list[Boxes]) -> float:
    """mAP50, 0..1, of a network's answers (N, 85, 22, 22) to the pictures with these boxes."""
    return mean_average_precision([detected(answer) for answer in answers], truths)


def network_inputs(pictures: list[Image.Image]) -> Floats:
    """Blue, green, red in 0..1, the whole picture stretched to the square: (N, 3, 352, 352)."""
    rows = []
    for picture in pictures:
        pixels = torch.from_numpy(np.array(picture)[None, :, :, ::-1].copy()).permute(0, 3, 1, 2).float()
        rows.append(torch.nn.functional.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear").numpy() / 255)
    return np.concatenate(rows).astype(np.float32)


def corners_from(middles: NDArray[np.float64]) -> NDArray[np.float64]:
    """x, y, width, height (M, 4) → corners."""
    return np.concatenate([middles[:, :2] - middles[:, 2:] / 2, middles[:, :2] + middles[:, 2:] / 2], axis=1)


def detected(answer: Floats) -> Boxes:
    """The boxes in one answer (85, 22, 22), the best first; a cell has one for each class that is likely enough."""
    cells = answer.reshape(5 + CLASSES, -1).astype(np.float64)  # (85, 484)
    row, column = np.divmod(np.arange(CELLS * CELLS), CELLS)
    x, y = (np.tanh(cells[1]) + column) / CELLS, (np.tanh(cells[2]) + row) / CELLS
    corners = corners_from(np.stack([x, y, *(1 / (1 + np.exp(-cells[3:5])))], axis=1))  # (484, 4)
    likely = cells[0] * cells[5:]  # (80, 484)
    best = np.argsort(-likely, axis=None, kind="stable")[:MOST]
    best = best[likely.reshape(-1)[best] > LEAST_SCORE]
    classes, places = np.divmod(best, CELLS * CELLS)
    shared = overlaps(corners[places], corners[places]) > OVERLAP_KEPT
    shared &= classes[:, None] == classes[None]
    dropped = np.zeros(len(best), bool)
    for place in range(len(best)):
        if not dropped[place]:
            dropped[place + 1 :] |= shared[place, place + 1 :]
    return Boxes(corners[places][~dropped], classes[~dropped], likely.reshape(-1)[best][~dropped])


def overlaps(ones: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each with each: (M, 4), (M', 4) → (M, M')."""
    low, high = np.maximum(ones[:, None, :2], others[None, :, :2]), np.minimum(ones[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (ones, others)]
    result: NDArray[np.float64] = common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-12)
    return result


def mean_average_precision(found: list[Boxes], truths: list[Boxes]) -> float:
    """mAP50 over all pictures, 0..1."""
    classes = sorted({int(each) for truth in truths for each in truth.classes})
    return float(np.mean([average_precision(found, truths, kind=kind) for kind in classes]))


def average_precision(found: list[Boxes], truths: list[Boxes], *, kind: int) -> float:
    """Of one class: every box, the best first over all pictures, takes the truth it overlaps most, if still free."""
    scores, right = [], []
    total = 0
    for boxes, truth in zip(found, truths, strict=True):
        mine, wanted = boxes.classes == kind, truth.corners[truth.classes == kind]
        total += len(wanted)
        shared = overlaps(boxes.corners[mine], wanted)  # (M, M'), the best box first
        free = np.ones(len(wanted), bool)
        for row, score in zip(shared, boxes.scores[mine], strict=True):
            row = np.where(free, row, -1.0)
            hit = len(row) > 0 and row.max() >= OVERLAP_RIGHT
            if hit:
                free[row.argmax()] = False
            scores.append(score)
            right.append(hit)
    hits = np.cumsum(np.array(right, bool)[np.argsort(-np.array(scores), kind="stable")])
    if total == 0 or len(hits) == 0:
        return 0.0
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / total, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0.0)[places].mean())
