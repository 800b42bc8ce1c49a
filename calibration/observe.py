"""Run a network over samples and watch the outputs of named layers.

The network is lent: it is read by forward hooks that are always removed, runs in evaluation mode without gradients, and
has each module's own mode back afterwards. One pass; the memory in use does not depend on the number of samples.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from calibration.errors import LayerNotFinite, LayerRefused
from calibration.histogram import HistogramWatch
from calibration.ranges import Range, Ranges
from calibration.samples import Samples
from calibration.two_ended import Function

NOTHING: Mapping[str, Function] = MappingProxyType({})


class Watch(Protocol):
    """What has been seen of one tensor so far."""

    def see(self, values: Tensor) -> None:
        """Take in the values of one tensor; raises LayerNotFinite for NaN and infinity."""

    def range(self, *, affine: bool = False, behind: Function | None = None) -> Range:
        """The range that the method chooses for what was seen.

        affine: for codes that reach from one end to the other, whatever zero point that takes (scale.py)
        behind: the function that alone reads the tensor; not every method makes use of it
        """
        ...

    def notes(self) -> tuple[str, ...]:
        """What is worth saying about what was seen."""
        ...


class Observer(Protocol):
    """A way to choose a range: a frozen dataclass of settings."""

    def watch(self) -> Watch:
        """A new watch for one tensor."""
        ...


def observe(
    model: nn.Module,
    samples: Samples,
    *,
    points: Mapping[str, Observer],
    batch: int = 64,
    affine: bool = False,
    behind: Mapping[str, Function] = NOTHING,
) -> Ranges:
    """The range of the output of each named sub-module over all samples.

    points: the name of a sub-module ("" is the network itself) → the observer of its output. A module that is called
        several times gets one range over all its calls.
    batch: samples that run at once
    affine: the codes have a zero point of their own
    behind: of points whose values are read by one function alone, that function

    Raises:
        LayerRefused: a name does not exist, was not reached, or its module answers no single tensor.
        LayerNotFinite: a watched layer answers NaN or infinity.
    """
    watches = {name: observer.watch() for name, observer in points.items()}
    _show(model, samples, watches={name: (watch,) for name, watch in watches.items()}, batch=batch)
    return _chosen(watches, samples, affine=affine, behind=behind)


def observe_each(
    model: nn.Module,
    samples: Samples,
    *,
    points: Collection[str],
    observers: Mapping[str, Observer],
    batch: int = 64,
    affine: bool = False,
    behind: Mapping[str, Function] = NOTHING,
) -> dict[str, Ranges]:
    """`observe` for each of several observers in one pass; those that need a histogram share one per layer.

    observers: a name for the result → observer of all the points
    """
    each = {observer: {name: way.watch() for name in points} for observer, way in observers.items()}
    shown: dict[str, list[Watch]] = {name: [] for name in points}
    for watches in each.values():
        for name, watch in watches.items():
            first = next((other for other in shown[name] if isinstance(other, HistogramWatch)), None)
            if isinstance(watch, HistogramWatch) and first is not None:
                watch.histogram = first.histogram
            else:
                shown[name].append(watch)
    _show(model, samples, watches=shown, batch=batch)
    return {observer: _chosen(watches, samples, affine=affine, behind=behind) for observer, watches in each.items()}


def _show(model: nn.Module, samples: Samples, *, watches: Mapping[str, Sequence[Watch]], batch: int) -> None:
    """Run the samples through the network once and show every named layer's output to its watches."""
    layers = dict(model.named_modules(remove_duplicate=False))
    missing = [name for name in watches if name not in layers]
    if missing:
        some = ", ".join([name for name in layers if name][:12])
        raise LayerRefused(f"the network has no layer named {', '.join(missing)}. Its layers begin with: {some} …")
    device = next((each.device for each in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    with evaluating(model), torch.no_grad():
        for number, inputs in enumerate(samples.batches(batch)):
            with ExitStack() as hooks:
                for name, shown in watches.items():
                    hook = _hook(name, shown, samples, first=number * batch, rows=len(inputs))
                    hooks.callback(layers[name].register_forward_hook(hook).remove)
                model(inputs.to(device))


def _chosen(watches: Mapping[str, Watch], samples: Samples, *, affine: bool, behind: Mapping[str, Function]) -> Ranges:
    """The range of each layer, and what is worth saying about it."""
    by_name = {}
    for name, watch in watches.items():
        try:
            by_name[name] = watch.range(affine=affine, behind=behind.get(name))
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
    name: str, watches: Sequence[Watch], samples: Samples, *, first: int, rows: int
) -> Callable[[nn.Module, Any, object], None]:
    """A hook that shows a layer's output to its watches, and knows which samples it belongs to."""

    def hook(layer: nn.Module, _inputs: Any, output: object) -> None:
        if not isinstance(output, Tensor):
            raise LayerRefused(
                f"layer {name!r} ({type(layer).__name__}) answers a {type(output).__name__}, and a range belongs to "
                f"one tensor. Watch a layer inside it instead."
            )
        try:
            for watch in watches:
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
