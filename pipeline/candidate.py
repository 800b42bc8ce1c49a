"""A model at one point of its journey, with its ancestry.

A candidate is immutable. A torch candidate is kept as data, never as a pickle: a safetensors file plus the way to build
the empty network again (its `architecture`), so each call of `module()` gives a fresh network of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pipeline.errors import CheckpointRefused
from pipeline.store import write_bytes

Architecture = Callable[[], nn.Module]


class Form(Enum):
    """What a candidate is on disk."""

    TORCH = "torch"
    ONNX = "onnx"
    ENGINE = "engine"


@dataclass(frozen=True)
class Candidate:
    """One file and where it comes from.

    stage: the stage that made it · path: its file · facts: what the stage says about it, plain JSON data
    architecture: builds the empty network; torch candidates only
    """

    stage: str
    form: Form
    digest: str
    path: Path
    parent: "Candidate | None" = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    architecture: Architecture | None = None

    def module(self) -> nn.Module:
        """A fresh network with this candidate's weights, in evaluation mode."""
        if self.architecture is None:
            raise TypeError(f"a candidate of form {self.form.value} has no torch module")
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be overwritten
            module = self.architecture()
        load_weights(module, self.path)
        return module.eval()

    def ancestry(self) -> Iterator["Candidate"]:
        """This candidate, its parent, and so on to the first."""
        candidate: Candidate | None = self
        while candidate is not None:
            yield candidate
            candidate = candidate.parent


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the state of `module` as safetensors, atomically."""
    save_tensors(module.state_dict(), path)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, *, metadata: dict[str, str] | None = None) -> None:
    """Write named tensors as safetensors, atomically; a full disk is refused like that of any other file."""
    apart = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(apart, metadata))


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a file written by `save_weights`; the names must be the same to the last."""
    try:
        state = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointRefused(f"{path} cannot be read ({error}). Run again with --fresh to make it anew.") from error
    own = module.state_dict()
    lacking = [name for name in own if name not in state]
    if lacking:
        raise CheckpointRefused(
            f"{path} lacks {len(lacking)} of the {len(own)} weights and ranges of this network: "
            f"{', '.join(lacking[:5])}{' …' if len(lacking) > 5 else ''}. Run again with --fresh to make it anew."
        )
    with torch.no_grad():
        module.load_state_dict(state, strict=True)
