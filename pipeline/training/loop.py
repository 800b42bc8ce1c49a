"""The one training loop of the project.

Teaching, distilling, recovering from pruning and training with fake quantizers all come here: they differ in the
network and in the objective. The network that is left behind is the one that scored best on the validation split (of
equals, the latest).
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.data.augment import Augment
from pipeline.errors import RecipeRefused, StageFailed
from pipeline.stage import Run
from pipeline.store import digest_of
from pipeline.training.batch_norm import batch_norm_synchronised
from pipeline.training.batches import Batch, Loader, answers_on
from pipeline.training.optimizers import Optimizer, Sgd, learning_rate
from pipeline.training.resume import Epoch, TrainingState, load_training, save_training
from pipeline.training.seeds import random_state_kept, seed_for
from targets.stopwatch import now_s

Objective = Callable[[nn.Module, Batch], Tensor]

CHECKPOINT_EVERY_S = 20.0
VALIDATION_BATCH = 256


@dataclass(frozen=True)
class Training:
    """How long and how fast a stage trains.

    epochs: passes over the training split · batch: inputs per step over all processes
    warmup: share of the steps in which the rate rises · augment: versions of each input, or None
    clip: largest gradient norm, or None
    """

    epochs: int
    batch: int = 64
    optimizer: Optimizer = Sgd()
    warmup: float = 0.1
    augment: Augment | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        if not (self.epochs >= 1 and self.batch >= 1):
            raise ValueError(f"a training needs at least one epoch and a batch of one, not {self.epochs}, {self.batch}")


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    history: tuple[Epoch, ...]
    best_score: float


def epochs_of(settings: Training, run: Run) -> int:
    """Passes over the training split, with `--epochs-scale`; at least one."""
    return max(1, round(settings.epochs * run.epochs_scale))


def train(
    module: nn.Module, *, objective: Objective, settings: Training, run: Run, untrained_score: float | None = None
) -> Trained:
    """Train `module` in place on `objective`, mean of which over a batch is minimised.

    untrained_score: the validation score it comes with; given, the network as it came is a candidate for the best
    Continues from `run.folder/training.safetensors` when a training of the same settings was interrupted there.

    Raises:
        StageFailed: the loss is no longer a number · RecipeRefused: the batch cannot be dealt out evenly.
    """
    epochs = epochs_of(settings, run)
    if settings.batch % run.workers.count:
        raise RecipeRefused(
            f"a batch of {settings.batch} cannot be dealt out evenly to {run.workers.count} processes. "
            "Choose --devices, or the batch in the recipe, so that it can."
        )
    with (
        random_state_kept(seed_for(run.seed, run.digest)),
        batch_norm_synchronised(module, run.workers),
        warnings.catch_warnings(),
    ):
        # Of 1×1 and one-channel kernels, whose strides are the same bytes under two names.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        loader = Loader(
            run.dataset, settings.augment, settings.batch, run.seed, run.workers.rank, run.workers.count,
            run.workers.device,
        )  # fmt: skip
        return _train(
            module,
            objective=objective,
            settings=settings,
            run=run,
            loader=loader,
            epochs=epochs,
            untrained_score=untrained_score,
        )


def _train(
    module: nn.Module,
    *,
    objective: Objective,
    settings: Training,
    run: Run,
    loader: Loader,
    epochs: int,
    untrained_score: float | None,
) -> Trained:
    digest = digest_of(run.digest, settings, epochs, run.workers.count)
    checkpoint = run.folder / "training.safetensors"
    module.to(device=run.workers.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = settings.optimizer(module.parameters())
    state = TrainingState()
    if untrained_score is not None:
        state.best_score, state.best = untrained_score, copied_state(module)
    state = load_training(checkpoint, module=module, optimizer=optimizer, digest=digest) or state
    run.workers.wait()  # no process overwrites the checkpoint before all have read it
    wrapped, fast = run.workers.fabric.setup(module, optimizer)
    steps, total = loader.steps, loader.steps * epochs
    kept_s = now_s()
    losses = torch.tensor(state.losses, device=run.workers.device)
    module.train()
    for epoch in range(state.step // steps, epochs):
        for batch in loader.epoch(epoch, from_step=state.step % steps):
            torch.manual_seed(seed_for(run.seed, "step", state.step, run.workers.rank))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(state.step, steps=total, peak=settings.optimizer.lr, warmup=settings.warmup)
            fast.zero_grad()
            loss = objective(wrapped, batch)
            run.workers.fabric.backward(loss)
            if settings.clip is not None:
                run.workers.fabric.clip_gradients(wrapped, fast, max_norm=settings.clip, error_if_nonfinite=False)
            fast.step()
            losses += loss.detach()
            state.step += 1
            # After the last step of an epoch the checkpoint waits for the score: a resumed run would leave it out.
            if run.workers.leads and state.step % steps and now_s() - kept_s > CHECKPOINT_EVERY_S:
                state.losses = _finite(losses, state.step, steps)
                save_training(checkpoint, state, weights=module.state_dict(), optimizer=optimizer, digest=digest)
                kept_s = now_s()
            run.progress.advance(state.step, total, f"training: epoch {epoch + 1} of {epochs}")
        score = validation_score(module, run=run)
        mean = _finite(run.workers.mean(losses), state.step, steps) / steps  # all stop here, or none
        state.history.append(Epoch(epoch, mean, score))
        state.losses = 0.0
        losses.zero_()
        if score >= state.best_score:
            state.best_score = score
            state.best = copied_state(module)
        if run.workers.leads:
            save_training(checkpoint, state, weights=module.state_dict(), optimizer=optimizer, digest=digest)
            kept_s = now_s()
        run.progress.advance(state.step, total, f"training: validation {100 * score:.1f} %")
    module.load_state_dict(state.best, strict=True)
    run.workers.wait()
    module.eval()
    return Trained(tuple(state.history), state.best_score)


def copied_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of the network as it is now."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def validation_score(module: nn.Module, *, run: Run) -> float:
    """The task metric on the validation split, 0..1."""
    split = run.dataset.validation
    outputs = answers_on(module, split, dataset=run.dataset, batch=VALIDATION_BATCH, device=run.workers.device)
    return float(run.metric(outputs.float().numpy(), split.labels).mean())


def _finite(losses: Tensor, step: int, steps: int) -> float:
    value = float(losses)
    if not math.isfinite(value):
        raise StageFailed(
            f"the training loss is {value} after step {step} (epoch {(step - 1) // steps + 1}). "
            "Lower the learning rate of this stage in the recipe, or set its gradient clip."
        )
    return value


def discard_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a finished training; its result is stored."""
    (folder / "training.safetensors").unlink(missing_ok=True)
