"""Run a network node by node over all samples, so that a layer can be changed between what it reads and what it writes.

Every node is computed once, in batches; a value is let go when the last node that reads it has run. The memory in use
is that of the samples' widest living tensors: fit for hundreds of samples, not for a data set.
"""

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from calibration.samples import Samples
from pipeline.graph.trace import layer_of
from pipeline.quantization.fake_quant import QuantizedWeight
from pipeline.quantization.placement import WEIGHTED

LayerTold = Callable[[int, int, str], None]  # layers done, layers in all, the name of the one that comes next


class Walk:
    """One network on its way through all samples. Nodes are reached in the order of the graph, never back."""

    def __init__(self, graph: fx.GraphModule, samples: Samples, *, batch: int = 64) -> None:
        device = next((each.device for each in graph.parameters()), torch.device("cpu"))
        self._samples = [inputs.to(device) for inputs in samples.batches(batch)]
        self._interpreter = fx.Interpreter(graph)
        self._values: list[dict[fx.Node, object]] = [{} for _ in self._samples]
        self._nodes = list(graph.graph.nodes)
        self._next = 0

    def inputs_of(self, name: str) -> list[Tensor]:
        """What the layer of node `name` is about to read, a tensor for each batch."""
        while self._nodes[self._next].name != name:
            self._run_next()
        read = self._nodes[self._next].all_input_nodes[0]
        return [_tensor(values[read]) for values in self._values]

    def outputs_of(self, name: str) -> list[Tensor]:
        """What node `name` has just written, a tensor for each batch: read it before going on."""
        self.inputs_of(name)
        node = self._nodes[self._next]
        self._run_next()
        return [_tensor(values[node]) for values in self._values]

    @torch.no_grad()
    def _run_next(self) -> None:
        node = self._nodes[self._next]
        for values, inputs in zip(self._values, self._samples, strict=True):
            self._interpreter.env = values
            values[node] = inputs if node.op == "placeholder" else self._interpreter.run_node(node)
            for done in self._interpreter.user_to_last_uses.get(node, []):
                del values[done]
        self._next += 1


def weighted_once(graph: fx.GraphModule) -> dict[str, nn.Module]:
    """Node → its convolution or linear layer, quantized or not, in order; without those that are called twice."""
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    return {
        node.name: layer
        for node in graph.graph.nodes
        if isinstance(layer := layer_of(graph, node), (*WEIGHTED, QuantizedWeight)) and called.count(node.target) == 1
    }


def by_channel(output: Tensor, layer: nn.Module) -> Tensor:
    """The output of a layer with its channels last and all else together: (values, C)."""
    axis = -1 if isinstance(layer, nn.Linear) else 1
    return output.movedim(axis, -1).flatten(0, -2)


def samples_of(inputs: Samples | Tensor) -> Samples:
    """The inputs, checked."""
    return Samples(inputs, origin="the inputs that were given") if isinstance(inputs, Tensor) else inputs


def same_layers(graph: fx.GraphModule, reference: fx.GraphModule) -> None:
    """Check that the two are twins that share no weight: a change of one must not reach the other.

    Raises:
        ValueError: they do not have the same layers, or they share some.
    """
    own, other = weighted_once(graph), weighted_once(reference)
    if list(own) != list(other):
        odd = ", ".join(sorted(set(own) ^ set(other))) or "their order"
        raise ValueError(f"the quantized and the float network differ in their layers ({odd}); give twins of one trace")
    if {id(each) for each in graph.parameters()} & {id(each) for each in reference.parameters()}:
        raise ValueError("the float network shares weights with the quantized one; give a copy made before quantizing")


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value
