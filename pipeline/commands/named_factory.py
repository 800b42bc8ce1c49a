"""A network factory by the name of its place, `package.module:factory`, tried before anything is built on it."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import UsageRefused, nearest


@dataclass(frozen=True)
class NamedFactory:
    """A factory that was called once.

    channels: of the first convolution's input, or None where there is none · parameters: how many the network has
    """

    module: str
    name: str
    network: nn.Module
    channels: int | None
    parameters: int

    def answers(self, size: tuple[int, int], *, channels: int) -> int:
        """How many classes the network tells apart in pictures of `size` (height, width).

        Raises:
            UsageRefused: it cannot take them, or does not answer one row of scores per picture.
        """
        shape = (2, channels, *size)
        try:
            with torch.inference_mode():
                scores = self.network.eval()(torch.zeros(shape))
        except Exception as error:
            raise UsageRefused(
                f"{self.module}:{self.name} cannot answer pictures of {size[0]}×{size[1]} with {channels} channel(s): "
                f"{_first_line(error)}. Name the size it was made for with --size HxW."
            ) from error
        if not isinstance(scores, torch.Tensor) or scores.ndim != 2 or scores.shape[0] != 2:
            found = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
            raise UsageRefused(
                f"{self.module}:{self.name} answers two pictures with {found}, not with a tensor (2, classes). "
                "Wrap it in a module that returns the scores of the classes alone."
            )
        return int(scores.shape[1])


def factory_named(place: str, *, flag: str, folder: Path) -> NamedFactory:
    """Import the factory at `place`, seen from the present folder and from `folder`, and call it.

    Raises:
        UsageRefused: it cannot be imported, is not there, cannot be called, or builds no torch network.
    """
    module_name, colon, name = place.partition(":")
    if not colon or not module_name or not name.isidentifier() or "/" in module_name or module_name.endswith(".py"):
        raise UsageRefused(f"{flag} {place}: write it as package.module:factory, for example my_models.resnet:small.")
    for seen_from in (str(Path.cwd()), str(folder.resolve())):
        if seen_from not in sys.path:
            sys.path.insert(0, seen_from)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UsageRefused(
            f"{flag} {place}: importing {module_name} failed with {type(error).__name__}: {_first_line(error)}. "
            f"Modules are looked for in {Path.cwd()} and among the installed packages."
        ) from error
    factory = getattr(module, name, None)
    if factory is None:
        theirs = [each for each in vars(module) if callable(getattr(module, each)) and not each.startswith("_")]
        raise UsageRefused(f"{flag} {place}: {nearest(name, theirs, kind=f'name in {module_name}')}")
    return _called(factory, place, flag=flag, module_name=module_name, name=name)


def _called(factory: object, place: str, *, flag: str, module_name: str, name: str) -> NamedFactory:
    if not callable(factory):
        raise UsageRefused(f"{flag} {place} is of type {type(factory).__name__} and cannot be called. Name a function.")
    builder: Callable[[], object] = factory
    try:
        network = builder()
    except Exception as error:
        raise UsageRefused(
            f"{flag} {place}: calling it without arguments failed with {type(error).__name__}: {_first_line(error)}. "
            "Write a function that takes no argument and returns the network."
        ) from error
    if not isinstance(network, nn.Module):
        raise UsageRefused(
            f"{flag} {place} returned something of type {type(network).__name__}, not a torch.nn.Module."
        )
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    channels = None if first is None else first.in_channels
    return NamedFactory(module_name, name, network, channels, sum(each.numel() for each in network.parameters()))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0].rstrip(".")
