"""The state of a training under way, in one safetensors file: a killed run continues where it was.

The file holds the weights, the best weights so far and the optimiser's tensors; its header holds step, best score and
history as JSON. Nothing in it is a pickle. It is replaced atomically, so a kill while writing leaves the one before.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from pipeline.candidate import save_tensors


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: mean training loss and the score on the validation split (0..1)."""

    epoch: int
    loss: float
    score: float


@dataclass
class TrainingState:
    """Everything a training needs to go on.

    step: steps done since the beginning · losses: sum of the losses of the epoch under way
    """

    step: int = 0
    losses: float = 0.0
    best_score: float = -1.0
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)


def save_training(
    path: Path, state: TrainingState, *, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, digest: str
) -> None:
    """Write the state atomically; `digest` ties it to the settings it was made with."""
    tensors = {f"now.{name}": tensor for name, tensor in weights.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    plain: dict[str, dict[str, Any]] = {}
    for place, slots in optimizer.state_dict()["state"].items():
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{place}.{slot}"] = value
            else:
                plain.setdefault(str(place), {})[slot] = value
    about = {
        "digest": digest, "step": state.step, "losses": state.losses, "best_score": state.best_score,
        "history": [asdict(epoch) for epoch in state.history], "optimizer": plain,
    }  # fmt: skip
    save_tensors(tensors, path, metadata={"training": json.dumps(about)})


def load_training(
    path: Path, *, module: torch.nn.Module, optimizer: torch.optim.Optimizer, digest: str
) -> TrainingState | None:
    """Put a saved training back into `module` and `optimizer`; None when there is none for this `digest`."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("training", "{}"))
            if about.get("digest") != digest:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, safetensors.SafetensorError, ValueError):
        return None
    parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    module.load_state_dict(parts["now"], strict=True)
    slots: dict[int, dict[str, Any]] = {int(place): dict(values) for place, values in about["optimizer"].items()}
    for name, tensor in parts["optimizer"].items():
        place, _, slot = name.partition(".")
        slots.setdefault(int(place), {})[slot] = tensor
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return TrainingState(
        step=about["step"], losses=about["losses"], best_score=about["best_score"], best=parts["best"],
        history=[Epoch(**epoch) for epoch in about["history"]],
    )  # fmt: skip
