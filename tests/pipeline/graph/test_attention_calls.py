"""Attention written out: the answers of torch's own calls, and what is left whole with a reason."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.graph.attention_calls import LEFT, Attention
from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.graph.trace import traced

PLACES, WIDTH = 7, 16
NOT_AHEAD = torch.triu(torch.ones(PLACES, PLACES, dtype=torch.bool), 1)
MASKS = {
    "none": None, "boolean": NOT_AHEAD,
    "of −∞": torch.zeros(PLACES, PLACES).masked_fill(NOT_AHEAD, -torch.inf),
    "of numbers": torch.linspace(-3, 3, PLACES**2).reshape(PLACES, PLACES),
}  # fmt: skip


class Net(nn.Module):
    """A forward pass over layers of the test's own; inputs (N, T, E)."""

    def __init__(self, body: Callable[[Any, Tensor], Tensor], mask: Tensor | None = None, **layers: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mask", mask)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def encoder(*, mask: Tensor | None = None, batch_first: bool, **settings: Any) -> Net:
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 32, batch_first=batch_first, **settings)
    stack = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def body(m: Any, x: Tensor) -> Tensor:
        if batch_first:
            return m.stack(x, mask=m.mask)  # type: ignore[no-any-return]
        return m.stack(x.transpose(0, 1), m.mask).transpose(0, 1)  # type: ignore[no-any-return]

    return drawn(Net(body, mask, stack=stack))


def drawn(network: Net) -> Net:
    """Weights so large that attention is far from a mean."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in network.parameters():
            each.copy_(0.4 * torch.randn(each.shape, generator=generator))
    return network.eval()


def apart(network: nn.Module, graph: nn.Module, inputs: Tensor) -> float:
    """The largest difference, of the size of the largest answer.

    With gradients: without them torch 2.13 takes a path of its own through encoder layers, which reads every number of
    a mask but 0 as "not looked at".
    """
    ours, theirs = graph(inputs), network(inputs)
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("mask", MASKS)
def test_an_encoder_of_2_layers_is_12_linear_layers_with_the_same_answers(
    mask: str, activation: str, norm_first: bool, batch_first: bool
) -> None:
    network = encoder(mask=MASKS[mask], batch_first=batch_first, norm_first=norm_first, activation=activation)
    graph = traced(network)
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    assert sum(isinstance(graph.get_submodule(name), nn.Linear) for name in called) == 12
    assert not any(isinstance(layer, nn.MultiheadAttention) for layer in graph.modules())
    # float32 sums of 16 to 32 numbers in another order, through two layers; seen up to 5e-7.
    assert apart(network, graph, torch.randn(3, PLACES, WIDTH)) < 1e-5
    assert apart(network, graph, 30 * torch.randn(3, PLACES, WIDTH)) < 1e-5
    assert any(isinstance(layer, nn.MultiheadAttention) for layer in network.modules())  # left alone


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_over_5_places_of_2_other_widths_answers_alike(batch_first: bool, bias: bool) -> None:
    layers: Any = {"attention": nn.MultiheadAttention(WIDTH, 4, kdim=6, vdim=10, batch_first=batch_first, bias=bias),
                   "keys": nn.Linear(WIDTH, 6), "values": nn.Linear(WIDTH, 10)}  # fmt: skip

    def body(m: Any, x: Tensor) -> Tensor:
        x = x if batch_first else x.transpose(0, 1)
        seen = x[:, :5] if batch_first else x[:5]
        answer, _ = m.attention(x, m.keys(seen), m.values(seen))
        return answer if batch_first else answer.transpose(0, 1)  # type: ignore[no-any-return]

    network = drawn(Net(body, **layers))
    graph = traced(network)
    assert isinstance(graph.get_submodule("attention.query"), nn.Linear)
    assert (graph.get_submodule("attention.query").bias is None) is not bias
    assert apart(network, graph, torch.randn(3, PLACES, WIDTH)) < 1e-5  # float32 sums in another order


def test_1_layer_under_2_names_and_called_2_times_is_written_out_once() -> None:
    attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
    network = drawn(Net(lambda m, x: m.two(*[m.one(x, x, x)[0]] * 3)[0], one=attention, two=attention))
    graph = traced(network)
    assert len({id(layer) for layer in graph.modules() if isinstance(layer, nn.Linear)}) == 4
    assert apart(network, graph, torch.randn(3, PLACES, WIDTH)) < 1e-5  # float32 sums in another order


def test_a_trained_mask_stays_a_weight_and_gets_a_gradient_of_49_numbers() -> None:
    network = drawn(Net(lambda m, x: m.attention(x, x, x, attn_mask=m.seen)[0], attention=nn.MultiheadAttention(
        WIDTH, 4, batch_first=True)))  # fmt: skip
    numbers = MASKS["of numbers"]
    assert numbers is not None
    network.seen = nn.Parameter(numbers.clone())
    graph = traced(network)
    inputs = torch.randn(3, PLACES, WIDTH)
    assert apart(network, graph, inputs) < 1e-5  # float32 sums in another order
    graph(inputs).pow(2).sum().backward()
    gradient = graph.get_parameter("seen").grad
    assert gradient is not None
    assert gradient.abs().min() > 0


ATTENTION: dict[str, Any] = {"embed_dim": WIDTH, "num_heads": 4, "batch_first": True}


def read_weights(m: Any, x: Tensor) -> Tensor:
    values, weights = m.attention(x, x, x)
    return values * weights.mean()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("body", "layer", "reason"),
    [
        (lambda m, x: m.attention(x, x, x, key_padding_mask=x[:, :, 0] > 1)[0], nn.MultiheadAttention(**ATTENTION),
         "its key_padding_mask is computed in the forward pass, not kept in a buffer"),
        (lambda m, x: m.attention(x, x, x, attn_mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1]))[0],
         nn.MultiheadAttention(**ATTENTION), "its attn_mask is computed in the forward pass, not kept in a buffer"),
        (lambda m, x: m.attention(x, src_key_padding_mask=x[:, :, 0] > 1),
         nn.TransformerEncoderLayer(WIDTH, 4, 32, batch_first=True),
         "its src_key_padding_mask is computed in the forward pass, not kept in a buffer"),
        (lambda m, x: m.attention(x, x, x, attn_mask=m.mask)[0], nn.MultiheadAttention(**ATTENTION),
         "its mask has another form than one row for each place"),
        (lambda m, x: m.attention(x, x, x)[0], nn.MultiheadAttention(**ATTENTION, add_zero_attn=True),
         "it adds places of its own to those that it reads"),
        (lambda m, x: m.attention(x, x, x)[0], nn.MultiheadAttention(**ATTENTION, add_bias_kv=True),
         "it adds places of its own to those that it reads"),
        (read_weights, nn.MultiheadAttention(**ATTENTION), "its weights are read"),
    ],
)  # fmt: skip
def test_7_calls_that_cannot_be_written_out_stay_whole_and_say_why(
    body: Callable[[Any, Tensor], Tensor], layer: nn.Module, reason: str
) -> None:
    network = drawn(Net(body, torch.zeros(3 * 4, PLACES, PLACES), attention=layer))
    graph = traced(network)
    assert type(graph.attention) is type(layer)
    assert getattr(graph.attention, LEFT) == reason
    assert not hasattr(network.attention, LEFT)
    assert apart(network, graph, torch.randn(3, PLACES, WIDTH)) < 1e-5  # torch may take another path through it


def test_dropout_of_one_half_drops_weights_of_attention_while_training_alone() -> None:
    graph = traced(drawn(encoder(batch_first=True, dropout=0.5)))
    inputs = torch.randn(3, PLACES, WIDTH)
    assert torch.equal(graph(inputs), graph(inputs))
    assert not torch.equal(graph.train()(inputs), graph(inputs))
    assert isinstance(Attention(nn.MultiheadAttention(8, 2, dropout=0.25)).dropout, nn.Dropout)
    assert Attention(nn.MultiheadAttention(8, 2, dropout=0.25)).dropout.p == 0.25


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mask", ["none", "boolean"])
def test_the_float_encoder_of_2_layers_is_written_to_onnx_too(mask: str, batch_first: bool) -> None:
    network = encoder(mask=MASKS[mask], batch_first=batch_first)
    inputs = torch.randn(1, PLACES, WIDTH)
    for module in (network, traced(network)):
        assert isinstance(module, (Net, fx.GraphModule))
        model = onnx_from_torch(module, input_shape=(PLACES, WIDTH))
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        with torch.no_grad():
            expected = network(inputs).numpy()
        answers = session.run(None, {"input": inputs.numpy()})[0]
        assert np.abs(answers - expected).max() < 1e-5 * np.abs(expected).max()  # float32 sums in another order
    assert torch.backends.mha.get_fastpath_enabled()
