"""torch's own attention, which is one call, written out in linear layers and matrix products with the same weights.

Vaswani et al. 2017, arXiv:1706.03762, sections 3.1 and 3.2; nn.MultiheadAttention, nn.TransformerEncoderLayer and
nn.TransformerEncoder of torch 2.13:

    MultiheadAttention(Q, K, V) = softmax( (Q W_q)(K W_k)ᵀ / √d + mask ) (V W_v) W_o      in each of H heads

Which form a call has is read from the traced graph. What is written out here must say the same for every input of the
network, so a call stays what it is, with a reason that the report gives, where its mask is computed in the forward
pass, or where somebody reads its weights.

Letters: N inputs, T places, E width, H heads, d = E / H.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

LEFT = "left_whole_because"  # the attribute of a layer that could not be written out
FAR_BELOW = -6e4  # as a score, 0 in softmax beside any score above −5.9e4; half precision ends at 65504
MASKS = ("key_padding_mask", "attn_mask", "mask", "src_mask", "src_key_padding_mask")
ORDER = {  # of the arguments that are tensors
    nn.MultiheadAttention: ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask"),
    nn.TransformerEncoderLayer: ("src", "src_mask", "src_key_padding_mask"),
    nn.TransformerEncoder: ("src", "mask", "src_key_padding_mask"),
}


class Attention(nn.Module):
    """nn.MultiheadAttention in four linear layers. Called as that is; its second answer is None."""

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.batch_first = layer.num_heads, layer.batch_first
        self.width, self.scale = layer.head_dim, layer.head_dim**-0.5
        if layer.in_proj_weight is not None:
            weights = layer.in_proj_weight.chunk(3)
        else:
            weights = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        biases = layer.in_proj_bias.chunk(3) if layer.in_proj_bias is not None else (None,) * 3
        self.query, self.key, self.value = (_linear(*each) for each in zip(weights, biases, strict=True))
        self.softmax, self.dropout = nn.Softmax(dim=-1), nn.Dropout(layer.dropout)
        self.output = _linear(layer.out_proj.weight, layer.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: None = None, need_weights: bool = False,
        attn_mask: Tensor | None = None, average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, None]:  # fmt: skip
        first, second = (0, 1) if self.batch_first else (1, 0)
        parts = [each if self.batch_first else each.transpose(0, 1)  # (N, T, E)
                 for each in (self.query(query), self.key(key), self.value(value))]  # fmt: skip
        queries, keys, values = (
            part.reshape(given.size(first), given.size(second), self.heads, self.width)
            for part, given in zip(parts, (query, key, value), strict=True)
        )  # (N, T, H, d)
        scores = torch.matmul(queries.transpose(1, 2), keys.permute(0, 2, 3, 1)) * self.scale  # (N, H, T, T)
        if attn_mask is not None:
            scores = scores + _added(attn_mask)
        mixed = torch.matmul(self.dropout(self.softmax(scores)), values.transpose(1, 2)).transpose(1, 2)  # (N, T, H, d)
        joined = mixed.reshape(query.size(first), query.size(second), self.heads * self.width)
        return self.output(joined if self.batch_first else joined.transpose(0, 1)), None


class EncoderLayer(nn.Module):
    """nn.TransformerEncoderLayer, its parts under their own names."""

    self_attn: nn.Module
    linear1: nn.Module
    linear2: nn.Module
    norm1: nn.Module
    norm2: nn.Module
    dropout: nn.Module
    dropout1: nn.Module
    dropout2: nn.Module

    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        for name, part in layer.named_children():
            self.add_module(name, part)
        self.first, self.function = layer.norm_first, layer.activation

    def forward(
        self, src: Tensor, src_mask: Tensor | None = None, src_key_padding_mask: None = None,
        is_causal: bool | None = None,
    ) -> Tensor:  # fmt: skip
        x = src
        if self.first:
            x = x + self._attention(self.norm1(x), src_mask)
            return x + self._forward_part(self.norm2(x))
        x = self.norm1(x + self._attention(x, src_mask))
        result: Tensor = self.norm2(x + self._forward_part(x))
        return result

    def _attention(self, x: Tensor, mask: Tensor | None) -> Tensor:
        result: Tensor = self.dropout1(self.self_attn(x, x, x, need_weights=False, attn_mask=mask)[0])
        return result

    def _forward_part(self, x: Tensor) -> Tensor:
        result: Tensor = self.dropout2(self.linear2(self.dropout(self.function(self.linear1(x)))))
        return result


class Encoder(nn.Module):
    """nn.TransformerEncoder: its layers one after the other."""

    def __init__(self, encoder: nn.TransformerEncoder) -> None:
        super().__init__()
        self.layers, self.norm = encoder.layers, encoder.norm

    def forward(
        self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: None = None, is_causal: bool | None = None
    ) -> Tensor:
        for layer in self.layers:
            src = layer(src, src_mask=mask)
        return src if self.norm is None else self.norm(src)


FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.MultiheadAttention: Attention, nn.TransformerEncoderLayer: EncoderLayer, nn.TransformerEncoder: Encoder,
}  # fmt: skip


def attention_written_out(module: nn.Module, graph_of: Callable[[nn.Module], fx.Graph]) -> nn.Module:
    """The network, in place, with torch's attention in parts wherever that is the same for every input.

    graph_of: traces it, with torch's own layers as single calls
    """
    while any(type(layer) in FORMS and not hasattr(layer, LEFT) for layer in module.modules()):
        calls: dict[str, list[fx.Node]] = {}
        for node in graph_of(module).nodes:
            if node.op == "call_module":
                calls.setdefault(str(node.target), []).append(node)
        changed = False
        for name, nodes in calls.items():
            layer = module.get_submodule(name)
            if type(layer) not in FORMS or hasattr(layer, LEFT):
                continue
            reason = next((said for node in nodes if (said := _why_not(module, layer, node)) is not None), None)
            if reason is not None:
                setattr(layer, LEFT, reason)
                continue
            made, changed = FORMS[type(layer)](layer).train(layer.training), True
            if layer is module:
                module = made
            else:
                _replace(module, layer, made)
        if not changed:  # the rest is inside what was left whole, or is never called
            break
    return module


def _why_not(module: nn.Module, layer: nn.Module, node: fx.Node) -> str | None:
    """Why this call of a layer cannot be written out; None: it can."""
    given = dict(zip(ORDER[type(layer)], node.args, strict=False)) | dict(node.kwargs)
    masks = {name: given[name] for name in MASKS if given.get(name) is not None}
    if any(not isinstance(mask, fx.Node) or mask.op != "get_attr" for mask in masks.values()):
        return f"its {' and '.join(masks)} is computed in the forward pass, not kept in a buffer"
    padding = [name for name in masks if "padding" in name]
    if padding:
        return f"its {padding[0]} belongs to single inputs"
    stored = [_stored(module, mask) for mask in masks.values() if isinstance(mask, fx.Node)]
    if any(mask is None or mask.dim() != 2 for mask in stored):
        return "its mask has another form than one row for each place"
    if not isinstance(layer, nn.MultiheadAttention):
        return None
    if layer.bias_k is not None or layer.add_zero_attn:
        return "it adds places of its own to those that it reads"
    weights = [user for user in node.users if user.args[1:] != (0,) and user.users]
    return "its weights are read" if weights else None


def _stored(module: nn.Module, mask: fx.Node) -> Tensor | None:
    """The tensor of a network that a node of its graph stands for."""
    found: Any = module
    for part in str(mask.target).split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, Tensor) else None


def _replace(module: nn.Module, layer: nn.Module, made: nn.Module) -> None:
    """Under every name that the layer has."""
    for name, each in list(module.named_modules(remove_duplicate=False)):
        if each is layer:
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent) if parent else module, child, made)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def _added(mask: Tensor) -> Tensor:
    """What a mask adds to scores; a boolean one says where nothing is looked at. A trained one is taken as it is."""
    if isinstance(mask, (nn.Parameter, fx.Proxy)):  # while it is traced, a parameter is a proxy and a buffer is not
        return mask
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, device=mask.device).masked_fill(mask, FAR_BELOW)
    return mask.clamp(min=FAR_BELOW)
