"""Run a network node by node over all samples, so that a layer can be changed between what it reads and what it writes.

Every node is computed once, in batches; a value is let go when the last node that reads it has run. The memory in use
is that of the samples' widest living tensors, so of large inputs not all are taken (`fitting`).
"""

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from calibration.samples import Samples
from pipeline.graph.trace import layer_of
from pipeline.quantization.fake_quant import QuantizedWeight
from pipeline.quantization.placement import WEIGHTED

MOST_BYTES = 2**28  # of one walk's living tensors
LEAST_SAMPLES = 16

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

    def alive_bytes(self) -> int:
        """The memory of the tensors that later nodes still read."""
        living = [each for values in self._values for each in values.values() if isinstance(each, Tensor)]
        return sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in living}.values())

    def most_bytes(self) -> int:
        """The most that is alive at any time, going to the end."""
        most = 0
        while self._next < len(self._nodes) - 1:  # the last one is the output
            self._run_next()
            most = max(most, self.alive_bytes())
        return most

    @torch.no_grad()
    def _run_next(self) -> None:
        node = self._nodes[self._next]
        for values, inputs in zip(self._values, self._samples, strict=True):
            self._interpreter.env = values
            values[node] = inputs if node.op == "placeholder" else self._interpreter.run_node(node)
            for done in self._interpreter.user_to_last_uses.get(node, []):
                del values[done]
        self._next += 1


def fitting(graph: fx.GraphModule, samples: Samples, *, most_bytes: int = MOST_BYTES) -> Samples:
    """As many samples, spread evenly over those given, as a walk over the network holds in `most_bytes`."""
    one = Samples(samples.inputs[:1], origin=samples.origin)
    room = max(LEAST_SAMPLES, most_bytes // max(1, Walk(graph, one).most_bytes()))
    if room >= len(samples):
        return samples
    places = [len(samples) * number // room for number in range(room)]
    return Samples(samples.inputs[places], samples.origin, [samples.index(place) for place in places])


def weighted_once(graph: fx.GraphModule) -> dict[str, nn.Module]:
    """Node → its convolution or linear layer, quantized or not, in order; without those that are called twice."""
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    return {
        node.name: layer
        for node in graph.graph.nodes
        if isinstance(layer := layer_of(graph, node), (*WEIGHTED, QuantizedWeight)) and called.count(node.target) == 1
    }


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
