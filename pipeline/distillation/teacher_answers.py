"""What the teacher says about the training split: computed once per view, kept on disk, never asked twice.

The augmentation makes a finite number of views of each input, the same in every stage, so the teacher's logits on a
view serve all stages and all epochs that see that view (stored soft targets: Parthasarathi & Ström 2019,
arXiv:1904.01624, here with all K logits). Terms that want the teacher's activations, and data too large to keep, ask
the teacher live, once per step.
"""

from collections.abc import Callable, Sequence

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pipeline.candidate import save_tensors
from pipeline.distillation.term import Answers
from pipeline.stage import Run
from pipeline.store import digest_of
from pipeline.training.batches import Batch, Loader
from pipeline.training.taps import tapped

LARGEST_KEPT_BYTES = 512_000_000
TEACHER_BATCH = 256

Teacher = Callable[[Batch], Answers]


class KeptAnswers:
    """Logits of the teacher by view, (N, K) each; a view is computed when it is first wanted."""

    def __init__(self, run: Run, loader: Loader) -> None:
        self.run = run
        self.loader = loader
        self.views: dict[int, Tensor] = {}
        self.module: torch.nn.Module | None = None
        self.wanted = 0  # views announced, for the remaining time

    def __call__(self, batch: Batch) -> Answers:
        if batch.view not in self.views:
            self.views[batch.view] = self._view(batch.view)
        return Answers(self.views[batch.view][batch.places].to(batch.inputs.device))

    def prepare(self, views: int) -> None:
        """Compute or read the first `views` views, so that the training after it runs at its own pace."""
        self.wanted = views
        for view in range(views):
            self.views[view] = self._view(view)
        self.module = None

    def _view(self, view: int) -> Tensor:
        digest = digest_of(
            self.run.the_teacher().digest, self.run.dataset.digest, self.loader.augment, self.run.seed, view
        )
        path = self.run.shared / f"answers-{digest[:16]}.safetensors"
        logits = self.run.workers.from_leader(_stored(path))
        if isinstance(logits, Tensor):
            return logits
        self.module = self.module or self.run.the_teacher().module().to(self.loader.device)
        logits = self._compute(self.module, view)
        if self.run.workers.leads:
            save_tensors({"logits": logits}, path)
        return logits

    def _compute(self, teacher: torch.nn.Module, view: int) -> Tensor:
        count = len(self.run.dataset.train.labels)
        teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        parts = []
        with torch.inference_mode():
            for start in range(0, count, TEACHER_BATCH):
                places = torch.arange(start, min(start + TEACHER_BATCH, count)).numpy()
                parts.append(teacher(self.loader.batch_of(places, view=view).inputs).float().cpu())
                views = max(self.wanted, view + 1)
                note = f"teacher answers: view {view + 1} of {views}"
                self.run.progress.advance(view * count + start + len(places), views * count, note)
        return torch.cat(parts).clone()


def _stored(path: object) -> Tensor | None:
    try:
        logits: Tensor = safetensors.torch.load_file(str(path))["logits"]
    except (OSError, KeyError, safetensors.SafetensorError):
        return None
    return logits


class LiveAnswers:
    """The teacher itself, asked once per step for logits and activations together."""

    def __init__(self, run: Run, loader: Loader, taps: Sequence[str]) -> None:
        self.taps = tuple(taps)
        self.module = run.the_teacher().module().to(loader.device).requires_grad_(False)

    def __call__(self, batch: Batch) -> Answers:
        with torch.no_grad(), tapped(self.module, self.taps) as seen:
            logits = self.module(batch.inputs)
        return Answers(logits, dict(seen))


def teacher_for(run: Run, loader: Loader, *, taps: Sequence[str]) -> Teacher:
    """The cheapest teacher that can say what is asked."""
    logits = len(loader.dataset.train.labels) * max(1, run.dataset.classes) * 4 * loader.views
    if taps or logits > LARGEST_KEPT_BYTES:
        return LiveAnswers(run, loader, taps)
    return KeptAnswers(run, loader)
