"""One job as it is handed in: its word, its JSON, its files, and what is to come back."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from targets.reach.blobs import Content, digest_of

EVERYTHING = "*"
ALWAYS_ANEW = ("facts",)  # an answer from before a link broke says nothing of now


@dataclass(frozen=True)
class Order:
    """contents: the files in the job's folder, our part among them. fetch: names to bring back `into` a folder"""

    what: str
    job: Mapping[str, Any]
    contents: Sequence[Content]
    fetch: Sequence[str]
    into: Path | None
    limit_s: float

    def request(self) -> dict[str, Any]:
        """What the keeper is told. The same order has the same digest, and gets a result that waits for it."""
        digest = uuid.uuid4().hex[:20] if self.what in ALWAYS_ANEW else digest_of(self.what, self.job, self.contents)
        files = {content.name: [content.sha256, content.size] for content in self.contents}
        return {
            "do": "run", "digest": digest, "what": self.what, "job": self.job, "files": files, "limit_s": self.limit_s
        }  # fmt: skip

    def wanted(self, result: Mapping[str, Any]) -> list[str]:
        """The names to bring back, now that the result is known."""
        listed = list(result.get("files", ())) if EVERYTHING in self.fetch else []
        return list(dict.fromkeys([*(name for name in self.fetch if name != EVERYTHING), *listed]))
