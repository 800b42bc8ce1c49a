"""What stays float: layers that were asked for, layers without integer kernels, additions and products in encoders."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import NetworkRefused
from pipeline.graph.trace import traced
from pipeline.models.text_encoder import TextEncoder
from pipeline.quantization.insert import watched
from pipeline.quantization.placement import Placement, placement_on

LAST = "the last layer: its answers are not quantized"


class Net(nn.Module):
    """Layers of the test's own, and a forward pass over them."""

    def __init__(self, body: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.body = body
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def chain(*, keep_float: tuple[str, ...] = ()) -> Placement:
    """a → relu → b → relu → c → relu → mean → head."""
    layers = {name: nn.Conv2d(4, 4, 3, padding=1) for name in "abc"}
    network = Net(
        lambda m, x: m.head(m.relu(m.c(m.relu(m.b(m.relu(m.a(x)))))).mean((2, 3))),
        **layers, relu=nn.ReLU(), head=nn.Linear(4, 2),
    )  # fmt: skip
    return placement_on(traced(network), keep_float=keep_float)


def test_1_layer_asked_to_stay_float_loses_its_weight_and_no_quantizer_of_its_neighbours() -> None:
    placement = chain(keep_float=("b",))
    assert placement.weights == ("a", "c")
    assert placement.kept_float == {"head": LAST, "b": "asked for"}
    # relu is what a answers, relu_1 what c reads: both need theirs.
    assert placement.activations == chain().activations


def test_the_first_layer_asked_to_stay_float_takes_the_quantizer_of_1_input_with_it() -> None:
    assert set(chain().activations) - set(chain(keep_float=("a",)).activations) == {"x"}


def test_the_last_2_convolutions_asked_to_stay_float_take_3_quantizers_with_them() -> None:
    placement = chain(keep_float=("c", "b"))
    assert set(placement.activations) == {"x", "relu"}  # none for the mean either: nothing integer touches it


def test_an_addition_of_1_float_and_1_integer_layer_has_all_3_quantizers() -> None:
    layers = {name: nn.Conv2d(4, 4, 1) for name in "abc"}
    network = Net(lambda m, x: m.head(m.c(m.a(x) + m.b(x)).mean((2, 3))), **layers, head=nn.Linear(4, 2))
    placement = placement_on(traced(network), keep_float=["b"])
    assert set(placement.activations) == {"x", "a", "b", "add", "c", "mean"}
    assert placement.weights == ("a", "c")


def test_an_addition_of_2_float_layers_before_a_third_has_0_quantizers() -> None:
    layers = {name: nn.Conv2d(4, 4, 1) for name in "abcd"}
    network = Net(lambda m, x: m.head(m.d(m.c(m.a(x) + m.b(x))).mean((2, 3))), **layers, head=nn.Linear(4, 2))
    assert set(placement_on(traced(network), keep_float=["a", "b", "c"]).activations) == {"c", "d", "mean"}


def test_a_layer_asked_for_2_times_and_the_last_one_are_kept_as_asked_for() -> None:
    placement = chain(keep_float=("b", "b", "head"))
    assert placement.kept_float == {"head": "asked for", "b": "asked for"}


def test_a_name_1_letter_off_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(NetworkRefused, match=r"called 'heat'.*nearest names are: head"):
        chain(keep_float=("heat",))


def test_all_3_layers_asked_to_stay_float_leave_nothing_to_quantize() -> None:
    with pytest.raises(NetworkRefused, match="asked to stay float: nothing to quantize"):
        chain(keep_float=("a", "b", "c"))


def test_an_encoder_of_2_blocks_has_12_integer_layers_and_float_sums_and_norms() -> None:
    network = TextEncoder(words=30, classes=4, length=8, depth=2, width=16, heads=2)
    graph, placement = watched(network)
    assert len(placement.weights) == 2 * 6
    assert placement.kept_float["token"].startswith("an embedding")
    assert placement.kept_float["blocks.0.norm1"].startswith("a normalisation")
    assert placement.kept_float["head"] == LAST
    assert len(placement.kept_float) == 1 + 2 * 2 + 1 + 1  # embedding, norms of the blocks, last norm, head
    sums = [node.name for node in graph.graph.nodes if node.name.startswith("add")]
    assert len(sums) == 1 + 2 * 2  # of words and positions, and two in each block
    assert not set(sums) & set(placement.activations)
    assert "ids" not in placement.activations  # words are numbers, not amounts
    # What linear layers read: behind each norm, attention and GELU. The product of attention is new, GELU as well.
    read = {"blocks_0_norm1", "matmul_1", "blocks_0_norm2", "blocks_0_gelu"}
    assert read < set(placement.activations)
    assert not any(placement.activations.values())  # all of them can be negative


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_of_3_kinds_has_its_weights_alone_placed_and_its_answers_are_quantized_apart(
    kind: Any,
) -> None:
    def body(m: Any, x: Tensor) -> Tensor:
        steps, state = m.cells(m.before(x))
        state = state[0] if isinstance(m.cells, nn.LSTM) else state
        return m.head(m.after(torch.cat([steps[:, -1], state[-1]], 1)))  # type: ignore[no-any-return]

    network = Net(
        body, before=nn.Linear(6, 8), cells=kind(8, 5, batch_first=True), after=nn.Linear(10, 8), head=nn.Linear(8, 2)
    )
    graph, placement = watched(network.eval())
    assert placement.weights == ("before", "after")
    assert placement.recurrent == ("cells",)
    assert placement.kept_float == {"head": LAST}
    x = torch.randn(3, 7, 6)
    with torch.no_grad():  # no quantizer stands on a tuple: the watched network still answers
        assert torch.equal(graph(x), network(x))
    assert "cells" not in placement.activations


def test_multi_head_attention_in_1_call_is_4_integer_layers_and_whole_where_its_weights_are_read() -> None:
    layers = {"before": nn.Linear(8, 8), "attention": nn.MultiheadAttention(8, 2, batch_first=True),
              "after": nn.Linear(8, 8), "head": nn.Linear(8, 2)}  # fmt: skip
    network = Net(lambda m, x: m.head(m.after(m.attention(m.before(x), x, x, need_weights=False)[0])), **layers)
    graph, placement = watched(network.eval())
    parts = tuple(f"attention.{part}" for part in ("query", "key", "value", "output"))
    assert placement.weights == ("before", *parts, "after")
    assert placement.kept_float == {"head": LAST}
    x = torch.randn(2, 3, 8)
    with torch.no_grad():
        assert torch.allclose(graph(x), network(x), atol=1e-6)  # the same sums in another order

    def read(m: Any, x: Tensor) -> Tensor:
        values, weights = m.attention(m.before(x), x, x)
        return m.head(m.after(values) * weights.mean())  # type: ignore[no-any-return]

    graph, placement = watched(Net(read, **layers).eval())
    assert placement.weights == ("before", "after")
    assert placement.kept_float["attention"].endswith("it is not written out: its weights are read")


def test_7_kinds_of_layers_without_quantizers_are_each_named_with_a_reason() -> None:
    others: dict[str, nn.Module] = {
        "norm": nn.GroupNorm(2, 4), "slope": nn.PReLU(), "batch": nn.BatchNorm2d(4), "wide": nn.Conv3d(4, 4, 1),
        "narrow": nn.ConvTranspose1d(4, 4, 1), "both": nn.Bilinear(4, 4, 4), "layer": nn.LayerNorm(4),
    }  # fmt: skip

    def body(m: Any, x: Tensor) -> Tensor:
        x = m.batch(m.slope(m.norm(m.a(x))))
        x = m.wide(x[..., None])[..., 0].flatten(2)
        x = m.narrow(x).reshape(-1, 4)
        return m.head(m.b(m.layer(m.both(x, x))))  # type: ignore[no-any-return]

    network = Net(body, **others, a=nn.Conv2d(4, 4, 1), b=nn.Linear(4, 4), head=nn.Linear(4, 2))
    placement = placement_on(traced(network))
    assert placement.weights == ("a", "b")
    assert set(placement.kept_float) == {*others, "head"}
    assert "Bilinear" in placement.kept_float["both"]
    assert len(set(placement.kept_float.values())) == 6  # two are norms, two are convolutions of other kinds


def test_a_leaky_relu_has_1_quantizer_before_it_and_1_behind() -> None:
    network = Net(
        lambda m, x: m.head(m.act(m.b(m.act(m.a(x)))).mean((2, 3))),
        a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1), act=nn.LeakyReLU(0.1), head=nn.Linear(4, 2),
    )  # fmt: skip
    placement = placement_on(traced(network))
    assert placement.activations == dict.fromkeys(["x", "a", "act", "b", "act_1", "mean"], False)


def test_1_tensor_unbound_into_3_repeats_its_quantizer_and_the_tuple_has_none() -> None:
    def body(m: Any, x: Tensor) -> Tensor:
        query, key, value = m.a(x).reshape(-1, 3, 4).unbind(1)
        return m.head(m.b(query + key + value))  # type: ignore[no-any-return]

    network = Net(body, a=nn.Linear(4, 12), b=nn.Linear(4, 4), head=nn.Linear(4, 2))
    graph, placement = watched(network.eval())
    assert set(placement.repeats) == {"reshape", "getitem", "getitem_1", "getitem_2"}
    x = torch.randn(2, 4)
    with torch.no_grad():
        assert torch.equal(graph(x), network(x))


def test_the_larger_of_2_channels_is_a_new_value_with_a_quantizer_of_its_own() -> None:
    network = Net(
        lambda m, x: m.head(m.b(m.a(x).max(1, keepdim=True)[0])),
        a=nn.Linear(4, 4), b=nn.Linear(1, 4), head=nn.Linear(4, 2),
    )  # fmt: skip
    graph, placement = watched(network.eval())
    assert "getitem" in placement.activations
    x = torch.randn(2, 4)
    with torch.no_grad():
        assert torch.equal(graph(x), network(x))
