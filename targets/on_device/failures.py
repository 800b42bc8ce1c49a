"""What can go wrong on the device, in a word that the other side acts on and a sentence that its user reads.

missing     a runtime, a file or a tool is not there
refused     the runtime does not take the model, or the engine file is damaged or was built elsewhere
failed      the runtime takes it and fails, or answers nonsense
full        no space is left on the device
usage       the job itself makes no sense
"""

from __future__ import annotations

KINDS = ("missing", "refused", "failed", "full", "usage")


class OnDeviceFailure(Exception):
    """A failure that is explained by its sentence alone."""

    def __init__(self, kind: str, sentence: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of failure; there are {', '.join(KINDS)}")
        super().__init__(sentence)
        self.kind = kind
        self.sentence = sentence
