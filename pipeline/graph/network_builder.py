"""A torch network that grows call by call, with what every call answers kept beside it.

Each call is run at once on two example batches: B inputs, and 3·B inputs of which the first B are the same. The shapes
are thus known where ONNX asks for them, the batch axis is the one that is three times as long, and a call that does not
keep the inputs of a batch apart is found where it stands.

An axis may hold more than the batch: attention as torch writes it joins (L, B, E) into (L·B, E). What stands before the
batch within its axis, here L, is kept as `ahead`.

Letters: B the batch size of the file (1 when it is free).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.fx.node import map_arg

from pipeline.graph.onnx_node import OnnxNode

TIMES = 3  # how many times longer the second example batch is
PADDED = -0.5  # below it, in 3 places of 10, an example of words has none: 0 stands there


@dataclass(frozen=True)
class NetworkBuilder:
    """What has been built so far.

    constants, tensors: ONNX value → its array, or the call that computes it
    readers, makers: ONNX value → the nodes that read it, the node that makes it
    short, long: call → its answer to B inputs, and to 3·B · ahead: call → rows before the batch within its axis, if > 1
    """

    root: nn.Module = field(default_factory=nn.Module)
    graph: fx.Graph = field(default_factory=fx.Graph)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    tensors: dict[str, fx.Node] = field(default_factory=dict)
    readers: dict[str, list[OnnxNode]] = field(default_factory=dict)
    makers: dict[str, OnnxNode] = field(default_factory=dict)
    short: dict[fx.Node, Any] = field(default_factory=dict)
    long: dict[fx.Node, Any] = field(default_factory=dict)
    ahead: dict[fx.Node, int] = field(default_factory=dict)

    def placeholder(self, name: str, *, shape: tuple[int, ...], kind: str, below: int | None) -> None:
        """The network's input: float32 always, as a data set holds it; where the file takes whole numbers they follow.

        shape: with the batch axis · kind, below: of what the file takes (pipeline/data/onnx_door.py)
        """
        node = self.graph.placeholder("input")
        generator, sizes = torch.Generator().manual_seed(0), (shape[0] * TIMES, *shape[1:])
        values = torch.randn(sizes, generator=generator)
        if kind != "float32" or below is not None:
            values = torch.randint(below or 2, sizes, generator=generator) * (values > PADDED)
        self.long[node] = values.float()
        self.short[node] = self.long[node][: shape[0]]
        self.tensors[name] = node
        if kind != "float32":
            whole = self.graph.call_method("to", (node, getattr(torch, kind)))
            self.short[whole], self.long[whole] = (each[node].to(whole.args[1]) for each in (self.short, self.long))
            self.tensors[name] = whole

    def batch_size(self) -> int:
        """B."""
        return len(next(iter(self.short.values())))

    def shape(self, tensor: fx.Node) -> tuple[int, ...]:
        """Its shape for B inputs."""
        return tuple(self.short[tensor].shape)

    def is_whole(self, tensor: fx.Node) -> bool:
        """Whether it holds whole numbers or truth values."""
        return not self.short[tensor].dtype.is_floating_point

    def batch_axis(self, tensor: fx.Node) -> int | None:
        """The axis along which the inputs of a batch stand; None for a constant."""
        pairs = enumerate(zip(self.short[tensor].shape, self.long[tensor].shape, strict=True))
        return next((axis for axis, (short, long) in pairs if short != long), None)

    def constant(self, node: OnnxNode, place: int, what: str) -> np.ndarray:
        """Input number `place` of `node`, which must be a constant."""
        if node.inputs[place] not in self.constants:
            raise node.refused(f"computes its {what} from the input; they must be constant. Export them as constants.")
        return self.constants[node.inputs[place]]

    def integers(self, node: OnnxNode, attribute: str, place: int) -> list[int] | None:
        """Whole numbers that stand in an attribute in old operator sets and in an input in new ones."""
        if attribute in node.attributes:
            return node.several(attribute, [])
        if not node.has(place):
            return None
        return [int(each) for each in self.constant(node, place, attribute).reshape(-1)]

    def tensor(self, node: OnnxNode, place: int) -> fx.Node:
        """Input number `place` of `node` as a tensor; a constant becomes a buffer."""
        name = node.inputs[place]
        return self.tensors[name] if name in self.tensors else self.buffer(self.constants[name], name=name)

    def buffer(self, values: np.ndarray, *, name: str) -> fx.Node:
        """A constant tensor of the network."""
        words = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
        free = self._free_name(f"constant_{words}")
        tensor = torch.from_numpy(np.array(values))
        self.root.register_buffer(free, tensor)
        node = self.graph.get_attr(free)
        self.short[node] = self.long[node] = tensor
        return node

    def layer(self, node: OnnxNode, layer: nn.Module, *tensors: fx.Node) -> fx.Node:
        """Call a layer, which gets the node's name."""
        name = self._free_name(node.name)
        self.root.add_module(name, layer.eval())
        return self._ran(node, self.graph.create_node("call_module", name, tensors, name=name), layer)

    def method(self, node: OnnxNode, name: str, *arguments: Any) -> fx.Node:
        """Call a method of the first tensor on the rest."""
        made = self.graph.create_node("call_method", name, arguments, name=node.name)
        return self._ran(node, made, getattr(torch.Tensor, name))

    def call(self, node: OnnxNode, function: Callable[..., Any], *arguments: Any, **settings: Any) -> fx.Node:
        """Call a function on tensors and numbers."""
        made = self.graph.create_node("call_function", function, arguments, settings, name=node.name)
        return self._ran(node, made, function)

    def reshape(self, node: OnnxNode, tensor: fx.Node, shape: tuple[int, ...], *, ahead: int) -> fx.Node:
        """Call torch.reshape, which alone changes what stands before the batch within its axis."""
        several = len(self.shape(tensor)) > 1
        as_rows = several and self.batch_axis(tensor) == 0 and shape == (-1, math.prod(self.shape(tensor)[1:]))
        function, arguments = (torch.flatten, (tensor, 1)) if as_rows else (torch.reshape, (tensor, shape))
        made = self.graph.create_node("call_function", function, arguments, name=node.name)
        return self._ran(node, made, function, ahead=ahead)

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 0
        while hasattr(self.root, name):
            number += 1
            name = f"{wanted}_{number}"
        return name

    def _ran(self, node: OnnxNode, made: fx.Node, function: Callable[..., Any], *, ahead: int | None = None) -> fx.Node:
        for examples in (self.short, self.long):
            arguments, settings = map_arg((made.args, made.kwargs), lambda item: examples[item])  # noqa: B023 used at once
            try:
                examples[made] = function(*arguments, **settings)
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                if examples is self.long:
                    raise _batch_mixed(node) from error
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise node.refused(f"cannot be computed ({reason}). Check the model with onnxruntime.") from error
        inherited = max((self.ahead.get(item, 1) for item in made.all_input_nodes), default=1)
        if (ahead or inherited) > 1:
            self.ahead[made] = ahead or inherited
        if isinstance(self.short[made], torch.Tensor):
            self._batch_kept(node, made)
        return made

    def _batch_kept(self, node: OnnxNode, made: fx.Node) -> None:
        """Refuse an answer that is not TIMES as long along one axis, with the same values in front."""
        short, long = self.short[made], self.long[made]
        whole = self.is_whole(made)
        if whole:
            short, long = short.double(), long.double()
        if short.ndim != long.ndim:
            raise _batch_mixed(node)
        axes = [axis for axis in range(short.ndim) if short.shape[axis] != long.shape[axis]]
        if len(axes) != 1 or long.shape[axes[0]] != TIMES * short.shape[axes[0]]:
            raise _batch_mixed(node)
        axis, ahead = axes[0], self.ahead.get(made, 1)
        if short.shape[axis] % ahead:
            raise _batch_mixed(node)
        each = short.shape[axis] // ahead
        front = long.unflatten(axis, (ahead, TIMES * each)).narrow(axis + 1, 0, each).flatten(axis, axis + 1)
        # Sums are taken in another order for another batch size: a thousandth of the largest value is generous.
        finite = short[torch.isfinite(short)]
        room = 1e-3 * float(finite.abs().max()) if finite.numel() and not whole else 0.0
        if not torch.allclose(front, short, rtol=0, atol=room, equal_nan=True):
            raise _batch_mixed(node)


def _batch_mixed(node: OnnxNode) -> Exception:
    return node.refused(
        "does not keep the inputs of a batch apart (it fixes the batch size, or mixes along the batch axis). "
        "Export the network with a free batch axis, and leave what joins inputs out of it."
    )
