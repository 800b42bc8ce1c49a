"""Whether the data look like what a network was trained on, told by the first batch norm that an input meets.

A batch norm remembers mean μ and variance σ² of each channel over the training inputs. Over these inputs the same
channel has mean m and variance s². For data like those of the training |m − μ| / σ is near 0 and s / σ near 1; with
pixels of 0..1 where a network wants ImageNet's normalisation, s / σ is about 0.2.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# Seen with a ResNet-56 and 64 pictures of CIFAR-10: 0.86 and 0.13 with its own normalisation; 0.21 and 0.20 with pixels
# of 0..1, 0.39 and 0.10 with pixels of −1..1, 52 and 28 with pixels of 0..255.
SPREAD = 2.0  # s / σ beyond this, or below its inverse
SHIFT = 1.0  # |m − μ| / σ beyond this


def input_mismatch(module: nn.Module, inputs: Tensor) -> str | None:
    """What speaks against these inputs, as a sentence; None when nothing does or the network has no batch norm.

    inputs: (N, …), as the network gets them
    """
    seen = _first_batch_norm(module, inputs)
    if seen is None:
        return None
    norm, arrived = seen
    assert norm.running_mean is not None
    assert norm.running_var is not None
    channels = arrived.transpose(0, 1).flatten(1)  # (C, N·pixels)
    deviation = norm.running_var.clamp_min(1e-12).sqrt()
    shift = float(((channels.mean(1) - norm.running_mean).abs() / deviation).median())
    spread = float((channels.std(1) / deviation).median())
    if shift <= SHIFT and 1 / SPREAD <= spread <= SPREAD:
        return None
    return (
        f"behind its first layer the data spread {spread:.2g} times as far as those the network was trained on, and "
        f"their middle lies {shift:.2g} deviations off. Check the normalisation: mean, std, and whether pixels are "
        "0..1 or 0..255."
    )


def _first_batch_norm(module: nn.Module, inputs: Tensor) -> tuple[_BatchNorm, Tensor] | None:
    """The batch norm that is called first and what arrives there."""
    seen: list[tuple[_BatchNorm, Tensor]] = []

    def note(norm: nn.Module, arrived: tuple[Tensor, ...]) -> None:
        if not seen and isinstance(norm, _BatchNorm) and norm.running_var is not None:
            seen.append((norm, arrived[0].detach()))

    hooks = [each.register_forward_pre_hook(note) for each in module.modules() if isinstance(each, _BatchNorm)]
    was_training = module.training
    try:
        with torch.inference_mode():
            module.eval()(inputs)
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    return seen[0] if seen else None
