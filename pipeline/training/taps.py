"""Named activations of a network, read by hooks; the network is never edited."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from pipeline.errors import RecipeRefused


@contextmanager
def tapped(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Inside the block, each forward pass puts the output of the named sub-modules into the yielded dict.

    Raises:
        RecipeRefused: the network has no sub-module of that name.
    """
    seen: dict[str, Tensor] = {}
    known = dict(module.named_modules())
    missing = [name for name in names if name not in known]
    if missing:
        some = ", ".join(name for name in list(known)[1:13])
        raise RecipeRefused(f"the network has no layer named {', '.join(missing)}. Its layers begin with: {some} …")

    def keep(name: str) -> Any:
        def hook(_layer: nn.Module, _inputs: Any, output: Tensor) -> None:
            seen[name] = output

        return hook

    handles = [known[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
