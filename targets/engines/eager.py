"""The FP32 reference: a torch module as it is, without any runtime.

The only file of this package that imports torch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from targets.errors import EngineFailed


@dataclass(frozen=True)
class EagerRunner:
    """Answers with the module in evaluation mode, a batch at a time; the module is left in the mode it was in."""

    module: nn.Module
    batch: int = 64
    threads: int | None = None  # None: as torch is set

    def __call__(self, inputs: NDArray[np.float32], /) -> NDArray[Any]:
        """The module's answers: (N, …) → (N, …)."""
        if len(inputs) == 0:
            raise EngineFailed("No input was given to the reference network.")
        device = next((parameter.device for parameter in self.module.parameters()), torch.device("cpu"))
        modes = {module: module.training for module in self.module.modules()}
        threads_before = torch.get_num_threads()
        self.module.eval()
        try:
            if self.threads is not None:
                torch.set_num_threads(self.threads)
            with torch.inference_mode():
                # A copy: torch warns of arrays that cannot be written to, such as those mapped from a file.
                parts = [
                    self.module(torch.tensor(inputs[start : start + self.batch], device=device)).cpu()
                    for start in range(0, len(inputs), self.batch)
                ]
                return torch.cat(parts).numpy()
        except (RuntimeError, TypeError, ValueError) as error:
            raise EngineFailed(
                f"The reference network {type(self.module).__name__} fails on inputs of shape {inputs.shape}: {error}"
            ) from error
        finally:
            torch.set_num_threads(threads_before)
            for module, training in modes.items():
                module.training = training

    def close(self) -> None:
        """Nothing to give back."""
