"""ONNX recurrent operators as torch layers: LSTM, GRU and RNN in the forms that torch has, one layer for each operator.

The gates stand in another order, and the outputs of the two directions on an axis of their own:

    LSTM   ONNX i o f c   torch i f g o (g is c)          GRU   ONNX z r h   torch r z n (n is h)
    Y (T, D, N, H) in ONNX, (T, N, D·H) in torch

What torch has not stays the operator that it is (foreign_operator.py): peepholes, other activation functions, clipping,
coupled gates, a GRU that resets before it multiplies, sequences of several lengths, a first state that is computed.

Letters: T steps, N inputs, I features, H units, D directions, G gates.
"""

import operator
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from pipeline.graph.network_builder import NetworkBuilder
from pipeline.graph.onnx_layers import parameter
from pipeline.graph.onnx_node import OnnxNode

KINDS: dict[str, Any] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}  # torch's order, of ONNX's
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
PLAIN = {"layout", "input_forget", "clip", "activation_alpha", "activation_beta"}  # torch has none of these
LENGTHS, STATES, PEEPHOLES = 4, (5, 6), 7  # which inputs these are


def has_torch_form(builder: NetworkBuilder, node: OnnxNode) -> bool:
    """Whether the operator is one that a torch layer computes."""
    if node.operator not in KINDS or any(node.attributes.get(name) for name in PLAIN):
        return False
    if any(node.has(place) and node.inputs[place] not in builder.constants for place in (1, 2, 3)):
        return False
    if node.operator == "GRU" and not node.whole("linear_before_reset", 0):
        return False
    return _activations(node) is not None and not node.has(PEEPHOLES) and _begins_at_zero(builder, node)


def recurrent(builder: NetworkBuilder, node: OnnxNode) -> list[fx.Node | None]:
    """The outputs Y, Y_h and of an LSTM Y_c, those that are read."""
    tensor, inputs = builder.tensor(node, 0), builder.constant(node, 1, "weights")  # (D, G·H, I)
    state, directions = builder.constant(node, 2, "weights"), len(inputs)
    settings = {"nonlinearity": _activations(node)} if node.operator == "RNN" else {}
    layer = KINDS[node.operator](
        inputs.shape[2], state.shape[2], bias=node.has(3), bidirectional=directions == 2, device="meta", **settings
    ).to_empty(device="cpu")  # no random number is drawn for weights that are yet to be put in
    rows = _rows(node, state.shape[2])
    for place, ending in enumerate(("l0", "l0_reverse")[:directions]):
        setattr(layer, f"weight_ih_{ending}", parameter(inputs[place][rows]))
        setattr(layer, f"weight_hh_{ending}", parameter(state[place][rows]))
        if node.has(3):
            first, second = np.split(builder.constant(node, 3, "biases")[place], 2)
            setattr(layer, f"bias_ih_{ending}", parameter(first[rows]))
            setattr(layer, f"bias_hh_{ending}", parameter(second[rows]))
    backwards = node.word("direction", "forward") == "reverse"
    if backwards:
        tensor = builder.call(node, torch.flip, tensor, [0])
    both = builder.layer(node, layer, tensor)
    made: list[fx.Node | None] = [None] * 3
    if _is_read(builder, node, 0):
        steps = builder.call(node, operator.getitem, both, 0)  # (T, N, D·H)
        if backwards:
            steps = builder.call(node, torch.flip, steps, [0])
        if directions == 2:
            parted = builder.call(node, torch.reshape, steps, (len(builder.short[steps]), -1, 2, state.shape[2]))
            made[0] = builder.call(node, torch.transpose, parted, 1, 2)
        else:
            made[0] = builder.call(node, torch.unsqueeze, steps, 1)
    end: fx.Node | None = None
    for place in (1, 2):
        if _is_read(builder, node, place):
            end = end or builder.call(node, operator.getitem, both, 1)
            made[place] = builder.call(node, operator.getitem, end, place - 1) if node.operator == "LSTM" else end
    return made


def _rows(node: OnnxNode, hidden: int) -> np.ndarray:
    rows: np.ndarray = np.concatenate([np.arange(hidden) + hidden * gate for gate in GATES[node.operator]])
    return rows


def _activations(node: OnnxNode) -> str | None:
    """The word of torch's RNN for the activation function, of other layers "tanh"; None if they have no such form."""
    directions = 2 if node.word("direction", "forward") == "bidirectional" else 1
    given = [str(each.decode() if isinstance(each, bytes) else each) for each in node.attributes.get("activations", [])]
    usual = USUAL[node.operator] * directions
    if node.operator == "RNN" and given == ["Relu"] * directions:
        return "relu"
    return "tanh" if given in ([], usual) else None


def _begins_at_zero(builder: NetworkBuilder, node: OnnxNode) -> bool:
    """Whether the first state is left out or constant zeros, and all sequences are as long as their tensor."""
    for place in STATES:
        if node.has(place) and (
            node.inputs[place] not in builder.constants or builder.constants[node.inputs[place]].any()
        ):
            return False
    if not node.has(LENGTHS):
        return True
    lengths, tensor = builder.constants.get(node.inputs[LENGTHS]), builder.tensors.get(node.inputs[0])
    return lengths is not None and tensor is not None and bool((lengths == builder.shape(tensor)[0]).all())


def _is_read(builder: NetworkBuilder, node: OnnxNode, place: int) -> bool:
    return place < len(node.outputs) and bool(node.outputs[place]) and bool(builder.readers.get(node.outputs[place]))
