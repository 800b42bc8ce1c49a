"""Why a layer stays float: the sentence for each kind that no quantizer is placed in.

Layers of torch.nn are single calls in the traced graph. What multiplies inside them is out of reach there, so such a
layer runs as it was trained; attention is written out where that is the same (graph/attention_calls.py). Recurrent
layers are rewritten as a whole (recurrent_weights.py), single steps and LSTMs with projections are not.
"""

import torch
import torch.nn.functional as F
from torch import fx, nn

from pipeline.graph.trace import calls, layer_of, why_left_whole

# The first kind that fits gives the reason.
REASONS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((nn.Embedding, nn.EmbeddingBag), "an embedding: it is looked up, nothing is multiplied"),
    ((nn.RNNBase, nn.RNNCellBase), "a recurrent layer of a kind that is not quantized: an LSTM with projections, or a "
                                   "single step in a loop of the network's own"),
    (
        (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.TransformerEncoder,
         nn.TransformerDecoder, nn.Transformer),
        "attention inside one call, where no quantizer can stand; written out with torch.matmul it would be quantized",
    ),
    (
        (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm, nn.LocalResponseNorm),
        "a normalisation: means and deviations are taken in floating point",
    ),
    ((nn.modules.batchnorm._BatchNorm,), "a batch norm that follows no layer of its own, so that it cannot be folded"),
    ((nn.PReLU,), "an activation function: integer runtimes have none with trained slopes"),
    ((nn.modules.conv._ConvNd,), "a convolution of this kind: only plain ones of one and two axes, and transposed ones "
                                 "of two, are quantized"),
)  # fmt: skip
FUNCTIONS = (F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.embedding, F.bilinear,
             torch.conv1d, torch.conv2d)  # fmt: skip


def reasons_by_layer(graph: fx.GraphModule, *, quantizable: tuple[type, ...]) -> dict[str, str]:
    """Every called layer that is not `quantizable` and has weights or stands for an ONNX operator, and every call with
    weights that no layer owns.
    """
    found: dict[str, str] = {}
    for node in graph.graph.nodes:
        layer = layer_of(graph, node)
        if layer is not None and not isinstance(layer, quantizable) and (foreign(layer) or has_weights(layer)):
            found[str(node.target)] = reason_for(layer)
        elif calls(graph, node, layers=(), functions=FUNCTIONS):
            found[node.name] = "a function with weights of its own: only those of layers are quantized"
    return found


def reason_for(layer: nn.Module) -> str:
    """The sentence for a layer of this kind."""
    if foreign(layer):
        return f"the ONNX operator {layer.operator}: torch has none like it, so it runs as it stands in the file"
    left = why_left_whole(layer)
    if left is not None:
        return f"attention inside one call, where no quantizer can stand; it is not written out: {left}"
    said = next((reason for kinds, reason in REASONS if isinstance(layer, kinds)), None)
    return said or f"{type(layer).__name__}: not a kind of layer that is quantized"


def foreign(layer: nn.Module) -> bool:
    """Whether a layer stands for an operator of an ONNX file that torch has not (graph/foreign_operator.py)."""
    return bool(getattr(layer, "one_call", False)) and hasattr(layer, "operator")


def has_weights(layer: nn.Module) -> bool:
    """Whether it has any of its own or below."""
    return any(True for _ in layer.parameters())
