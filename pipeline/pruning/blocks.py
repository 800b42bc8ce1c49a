"""Whole residual blocks that can go: what such a block gives is its input and a correction, so the input alone will do.

Veit, Wilber & Belongie 2016, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks",
arXiv:1605.06431, section 4.1: a trained residual network loses little when one block is deleted. Which one is measured
here, not guessed from weights. Blocks go one after the other, each time the one with the least

    D(b) / M(b),   D(b) = ‖y₋b − y‖² / ‖y − ȳ‖²

Letters: y answers of the whole network (N, …), ȳ their mean over the inputs, y₋b answers without the block b and those
that went before it, M(b) multiply-accumulates of the block.

A runtime pays for every layer it starts and every tensor it writes, so a block saves more time than the same number of
operations taken from many layers.
"""

import copy
import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from pipeline.errors import NetworkRefused, nearest
from pipeline.pruning.operations import macs

ADDS = (operator.add, operator.iadd, torch.add)
ADD_METHODS = ("add", "add_")


def residual_blocks(module: nn.Module, example: Tensor) -> list[str]:
    """Names of the innermost sub-modules that add something of the same shape to their input.

    example: one input of the network (1, …)
    """
    shapes = _shapes_through(module, example)
    found: list[str] = []
    for name, block in reversed(list(module.named_modules())):  # what is inside comes before what is outside
        if not name or not list(block.children()) or any(inner.startswith(f"{name}.") for inner in found):
            continue
        before, after = shapes.get(name, (None, ()))
        if before is not None and before == after and _adds_its_input(block):
            found.append(name)
    return found[::-1]


def drop(module: nn.Module, names: Sequence[str]) -> None:
    """Put an identity in the place of every block in `names`, in place."""
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, nn.Identity())


def blocks_to_drop(module: nn.Module, inputs: Tensor, *, count: int) -> list[str]:
    """The `count` residual blocks whose loss changes the answers least for the operations it saves, in that order.

    inputs: what the answers are compared on (N, …)

    Raises:
        NetworkRefused: there are fewer blocks than that.
    """
    module.eval()
    left = residual_blocks(module, inputs[:1])
    if len(left) < count:
        raise NetworkRefused(
            f"{type(module).__name__} has {len(left)} residual blocks that can be taken out whole "
            f"(output = input + correction, of equal shapes), and drop_blocks={count} were asked for. Ask for fewer."
        )
    whole = macs(module, inputs[:1])
    answers = _answers(module, inputs)
    trial, dropped = copy.deepcopy(module), []
    for _ in range(count):
        costs = {name: _cost(trial, name, inputs, answers) for name in left}
        best = min(costs, key=lambda name: costs[name])
        drop(trial, [best])
        left.remove(best)
        dropped.append(best)
    if macs(trial, inputs[:1]) >= whole:
        raise NetworkRefused(f"taking out {', '.join(dropped)} saves no operation of {type(module).__name__}.")
    return dropped


def named_blocks(module: nn.Module, names: Sequence[str], example: Tensor) -> list[str]:
    """`names`, when each is a residual block of the network.

    Raises:
        NetworkRefused: one is not.
    """
    known = residual_blocks(module, example)
    for name in names:
        if name not in known:
            raise NetworkRefused(nearest(name, known, kind="residual block"))
    return list(names)


def _cost(module: nn.Module, name: str, inputs: Tensor, answers: Tensor) -> float:
    """D(b) / M(b)."""
    trial = copy.deepcopy(module)
    drop(trial, [name])
    saved = macs(module, inputs[:1]) - macs(trial, inputs[:1])
    damage = (_answers(trial, inputs) - answers).pow(2).sum() / (answers - answers.mean(0)).pow(2).sum()
    return float(damage) / max(saved, 1)


def _answers(module: nn.Module, inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([module(part) for part in torch.split(inputs, 256)])


def _shapes_through(module: nn.Module, example: Tensor) -> dict[str, tuple[torch.Size, torch.Size]]:
    """Shapes of the input and the output of every sub-module that takes one tensor, once, and gives one."""
    seen: dict[str, list[tuple[torch.Size, torch.Size] | None]] = {}

    def note(name: str, inputs: tuple[object, ...], output: object) -> None:
        plain = len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)
        seen.setdefault(name, []).append((inputs[0].shape, output.shape) if plain else None)  # type: ignore[attr-defined]

    handles = [
        block.register_forward_hook(lambda _, inputs, output, name=name: note(name, inputs, output))
        for name, block in module.named_modules()
        if name
    ]
    with torch.no_grad():
        module.eval()(example)
    for handle in handles:
        handle.remove()
    return {name: calls[0] for name, calls in seen.items() if len(calls) == 1 and calls[0] is not None}


def _adds_its_input(block: nn.Module) -> bool:
    """Whether the block's forward pass adds its own input, untouched, to something."""
    try:
        graph = fx.symbolic_trace(copy.deepcopy(block))
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError):
        return False  # a forward pass that branches on values: nothing is known about it

    def is_input(node: fx.Node) -> bool:
        if node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), nn.Identity):
            return is_input(node.all_input_nodes[0])
        return node.op == "placeholder"

    for node in graph.graph.nodes:
        added = node.op == "call_function" and node.target in ADDS
        if (added or (node.op == "call_method" and node.target in ADD_METHODS)) and any(
            is_input(item) for item in node.all_input_nodes
        ):
            return True
    return False
