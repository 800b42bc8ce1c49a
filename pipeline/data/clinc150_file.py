"""CLINC150: what people say to an assistant, and which of 150 things they want.

Larson et al. 2019, "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction", EMNLP,
arXiv:1909.02027; https://github.com/clinc/oos-eval, CC BY 3.0. Read is `data_full.json`, packed (.gz) or not: lists of
[text, intent] under `train` (15 000), `val` (3 000) and `test` (4 500), which are the three splits here. The texts out
of scope (`oos_…`) are left out.

A text becomes T numbers. Words are runs of letters, digits and apostrophes in lower case; each other sign is a word of
its own. The vocabulary is that of the training texts alone, the most frequent words first, words that occur once left
out: 0 fills up to T, 1 stands for every word that is not in it, and what is longer than T is cut.

Letters: N texts, T tokens each, V words.
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.dataset import Dataset, Split, checked
from pipeline.data.find_files import find_file
from pipeline.errors import DataRefused

FILES = ("data_full.json.gz", "data_full.json")
WHAT = "CLINC150 (https://github.com/clinc/oos-eval)"
PARTS = {"train": "train", "validation": "val", "test": "test"}  # split: name in the file
PADDING, UNKNOWN = 0, 1
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]|_")

Example = tuple[str, str]  # text, intent


@dataclass(frozen=True)
class Clinc150:
    """The official splits; texts as token ids in float32, (N, T).

    words: V at most, padding and unknown counted · length: T
    """

    words: int = 2500
    length: int = 24

    def __call__(self, folder: Path | None, *, cache: Path | None = None) -> Dataset:
        """Read the file below `folder`; nothing is kept in `cache`."""
        path = find_file(FILES, folder, what=WHAT)
        parts = parts_of(path)
        vocabulary = vocabulary_of((text for text, _ in parts["train"]), words=self.words)
        labels = tuple(sorted({intent for _, intent in parts["train"]}))
        splits, first = [], 0
        for name, examples in parts.items():
            splits.append(self._split(name, examples, vocabulary, labels, first=first, path=path))
            first += len(examples)
        train, validation, test = splits
        return checked(Dataset("clinc150", train, validation, test, labels=labels))

    def _split(
        self,
        name: str,
        examples: list[Example],
        vocabulary: Mapping[str, int],
        labels: tuple[str, ...],
        *,
        first: int,
        path: Path,
    ) -> Split:
        number = {label: place for place, label in enumerate(labels)}
        strange = next((place for place, (_, intent) in enumerate(examples) if intent not in number), None)
        if strange is not None:
            raise DataRefused(
                f"{path}, '{PARTS[name]}' entry {strange}: the intent '{examples[strange][1]}' is in no training text. "
                "Fetch the file again, or take that entry out."
            )
        inputs = np.stack([token_ids(text, vocabulary, length=self.length) for text, _ in examples])  # (N, T)
        answers = np.array([number[intent] for _, intent in examples], dtype=np.int64)
        return Split(name, inputs, answers, np.arange(first, first + len(examples), dtype=np.int64))


def words_of(text: str) -> list[str]:
    """The text's words and signs, in lower case.

    >>> words_of("What's my balance?")
    ["what's", 'my', 'balance', '?']
    """
    return WORD.findall(text.lower().replace("’", "'"))


def vocabulary_of(texts: Iterable[str], *, words: int) -> dict[str, int]:
    """A number from 2 on for each of the `words` − 2 most frequent words that occur twice; of equals, by alphabet."""
    counts = Counter(word for text in texts for word in words_of(text))
    frequent = sorted((word for word, count in counts.items() if count > 1), key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(frequent[: words - 2], start=2)}


def token_ids(text: str, vocabulary: Mapping[str, int], *, length: int) -> np.ndarray:
    """The text as `length` numbers in float32."""
    ids = np.full(length, PADDING, dtype=np.float32)  # exact up to 2²⁴
    known = [vocabulary.get(word, UNKNOWN) for word in words_of(text)[:length]]
    ids[: len(known)] = known
    return ids


def parts_of(path: Path) -> dict[str, list[Example]]:
    """The examples of the three splits, in the order of the file.

    Raises:
        DataRefused: the file is damaged, or holds something else.
    """
    try:
        packed = path.read_bytes()
        content: Any = json.loads(gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataRefused(f"{path} cannot be read ({error}). It may be cut short: fetch it again.") from error
    held: dict[str, Any] = content if isinstance(content, dict) else {}
    missing = [part for part in PARTS.values() if not isinstance(held.get(part), list) or not held[part]]
    if missing:
        raise DataRefused(f"{path} has no texts under {', '.join(missing)}. Fetch data_full.json of {WHAT}.")
    return {
        name: [_example(entry, path, part, n) for n, entry in enumerate(content[part])] for name, part in PARTS.items()
    }


def _example(entry: Any, path: Path, part: str, place: int) -> Example:
    match entry:
        case [str(text), str(intent)] if words_of(text) and intent:
            return text, intent
    raise DataRefused(
        f"{path}, '{part}' entry {place}: [text, intent] was expected, not {str(entry)[:60]!r}. Fetch the file again."
    )
