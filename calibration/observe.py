"""Run a network over samples and watch the outputs of named layers.

The network is lent: it is read by forward hooks that are always removed, runs in evaluation mode without gradients, and
has each module's own mode back afterwards. One pass; the memory in use does not depend on the number of samples.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from calibration.errors import LayerNotFinite, LayerRefused
from calibration.ranges import Range, Ranges
from calibration.samples import Samples


class Watch(Protocol):
    """What has been seen of one tensor so far."""

    def see(self, values: Tensor) -> None:
        """Take in the values of one tensor; raises LayerNotFinite for NaN and infinity."""

    def range(self) -> Range:
        """The range that the method chooses for what was seen."""
        ...

    def notes(self) -> tuple[str, ...]:
        """What is worth saying about what was seen."""
        ...


class Observer(Protocol):
    """A way to choose a range: a frozen dataclass of settings."""

    def watch(self) -> Watch:
        """A new watch for one tensor."""
        ...


def observe(model: nn.Module, samples: Samples, *, points: Mapping[str, Observer], batch: int = 64) -> Ranges:
    """The range of the output of each named sub-module over all samples.

    points: the name of a sub-module ("" is the network itself) → the observer of its output. A module that is called
        several times gets one range over all its calls.
    batch: samples that run at once

    Raises:
        LayerRefused: a name does not exist, was not reached, or its module answers no single tensor.
        LayerNotFinite: a watched layer answers NaN or infinity.
    """
    layers = dict(model.named_modules(remove_duplicate=False))
    missing = [name for name in points if name not in layers]
    if missing:
        some = ", ".join([name for name in layers if name][:12])
        raise LayerRefused(f"the network has no layer named {', '.join(missing)}. Its layers begin with: {some} …")
    watches = {name: observer.watch() for name, observer in points.items()}
    device = next((each.device for each in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    with evaluating(model), torch.no_grad():
        for number, inputs in enumerate(samples.batches(batch)):
            with ExitStack() as hooks:
                for name, watch in watches.items():
                    hook = _hook(name, watch, samples, first=number * batch, rows=len(inputs))
                    hooks.callback(layers[name].register_forward_hook(hook).remove)
                model(inputs.to(device))
    by_name = {}
    for name, watch in watches.items():
        try:
            by_name[name] = watch.range()
        except LayerRefused:
            raise LayerRefused(
                f"layer {name!r} was never reached while the network answered {len(samples)} samples "
                f"({samples.origin}). Watch a layer that the network calls."
            ) from None
    return Ranges(by_name, {name: notes for name, watch in watches.items() if (notes := watch.notes())})


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block, and each module's own mode after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _hook(
    name: str, watch: Watch, samples: Samples, *, first: int, rows: int
) -> Callable[[nn.Module, Any, object], None]:
    """A hook that shows a layer's output to its watch, and knows which samples it belongs to."""

    def hook(layer: nn.Module, _inputs: Any, output: object) -> None:
        if not isinstance(output, Tensor):
            raise LayerRefused(
                f"layer {name!r} ({type(layer).__name__}) answers a {type(output).__name__}, and a range belongs to "
                f"one tensor. Watch a layer inside it instead."
            )
        try:
            watch.see(output)
        except LayerNotFinite:
            raise LayerNotFinite(_not_finite(name, output, samples, first=first, rows=rows)) from None

    return hook


def _not_finite(name: str, output: Tensor, samples: Samples, *, first: int, rows: int) -> str:
    """The sentence for an output that is not finite; it names the sample if the output has one row for each."""
    what = "NaN" if bool(output.isnan().any()) else "infinity"
    if output.ndim and len(output) == rows:
        row = int((~output.reshape(rows, -1).isfinite().all(dim=1)).nonzero()[0])
        where, remedy = samples.place(first + row), f"or leave out index {samples.index(first + row)}"
    else:
        where, remedy = (
            f"samples {first + 1} to {first + rows} of {len(samples)} ({samples.origin})",
            "or their samples",
        )
    return (
        f"layer {name!r} gives {what} for {where}. No range holds that. "
        f"Check the weights of this layer and of those before it, {remedy}."
    )
