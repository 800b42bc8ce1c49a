"""Where quantizers go, on graphs small enough to be read."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import NetworkRefused
from pipeline.graph.trace import traced
from pipeline.models.resnet_cifar import PaddedSubsample
from pipeline.quantization.fold import batch_norm_folded
from pipeline.quantization.placement import Placement, placement_on

Body = Callable[[Any, Tensor], Any]


class Small(nn.Module):
    """Three convolutions, a linear layer, and a forward pass of the test's own."""

    def __init__(self, body: Body, **layers: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.relu, self.pool, self.head = nn.ReLU(), nn.MaxPool2d(2), nn.Linear(4, 2)
        self.drop, self.same, self.normal = nn.Dropout(0.5), nn.Identity(), nn.BatchNorm2d(4)
        self.body = body
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.body(self, x)
        return answer


def placed(body: Body, *, keep_float: tuple[str, ...] = (), **layers: nn.Module) -> Placement:
    return placement_on(batch_norm_folded(traced(Small(body, **layers))), keep_float=keep_float)


def test_2_convolutions_with_relu_have_3_quantizers_and_the_last_layer_none() -> None:
    placement = placed(lambda m, x: m.head(m.relu(m.b(m.relu(m.a(x)))).mean((2, 3))))
    # The input may be negative; each convolution's stands behind its ReLU; the mean feeds the linear layer.
    assert placement.activations == {"x": False, "relu": True, "relu_1": True, "mean": True}
    assert placement.repeats == {}
    assert placement.weights == ("a", "b")
    assert list(placement.kept_float) == ["head"]


@pytest.mark.parametrize(
    "relu", [F.relu, torch.relu, F.relu6, partial(F.relu, inplace=True), lambda y: y.relu_(), lambda y: y.relu()]
)
def test_a_functional_relu_in_6_spellings_is_part_of_the_convolution(relu: Callable[[Tensor], Tensor]) -> None:
    placement = placed(lambda m, x: m.head(m.b(relu(m.a(x))).mean((2, 3))))
    assert list(placement.activations.values()) == [False, True, False, False]
    assert "a" not in placement.activations


def test_a_convolution_that_is_read_twice_is_quantized_before_and_behind_its_relu() -> None:
    def body(m: Any, x: Tensor) -> Any:
        x = m.a(x)
        return m.head((m.b(m.relu(x)) + x).mean((2, 3)))

    assert set(placed(body).activations) == {"x", "a", "relu", "b", "add", "mean"}


def test_a_residual_addition_has_its_2_inputs_and_its_relu_quantized() -> None:
    def body(m: Any, x: Tensor) -> Any:
        x = m.relu(m.a(x))
        return m.head(m.relu(m.b(x) + x).mean((2, 3)))

    placement = placed(body)
    assert placement.activations == {"x": False, "relu": True, "b": False, "relu_1": True, "mean": True}


def test_1_stored_tensor_that_is_added_has_no_quantizer() -> None:
    class Shifted(Small):
        def __init__(self, body: Body) -> None:
            super().__init__(body)
            self.place = nn.Parameter(torch.zeros(4, 1, 1))

    graph = traced(Shifted(lambda m, x: m.head(m.relu(m.b(m.relu(m.a(x)) + m.place)).mean((2, 3)))))
    placement = placement_on(batch_norm_folded(graph))
    # The convolution before it is quantized as any, and so is the sum, which the next one reads; what is added is not.
    assert list(placement.activations) == ["x", "relu", "add", "relu_1", "mean"]


def test_max_pooling_repeats_the_quantizer_of_its_input_1_time() -> None:
    placement = placed(lambda m, x: m.head(m.b(m.pool(m.relu(m.a(x)))).mean((2, 3))))
    assert placement.repeats == {"pool": "relu"}
    assert "pool" not in placement.activations


def test_shortcut_a_repeats_1_quantizer_behind_subsampling_and_padding() -> None:
    def body(m: Any, x: Tensor) -> Any:
        x = m.relu(m.a(x))
        return m.head((m.b(x)[:, :, ::2, ::2] + m.short(x)[:, 2:-2]).mean((2, 3)))

    placement = placed(body, short=PaddedSubsample(stride=2, padding=2))
    assert placement.repeats == {
        "getitem": "b", "max_pool2d": "relu", "pad": "relu", "getitem_1": "relu",
    }  # fmt: skip


def test_a_concat_shares_1_quantizer_with_its_2_inputs_where_both_may_be_negative_or_neither() -> None:
    def body(m: Any, x: Tensor) -> Any:
        x = torch.cat([m.a(x), m.b(x)], 1)
        return m.head(m.wide(x).mean((2, 3)))

    placement = placed(body, wide=nn.Conv2d(8, 4, 1))
    assert placement.activations == {"x": False, "a": False, "wide": False, "mean": False}
    assert placement.repeats == {"b": "a", "cat": "a"}


def test_a_concat_of_a_relu_and_a_signed_tensor_has_3_quantizers() -> None:
    def body(m: Any, x: Tensor) -> Any:
        x = torch.cat([m.relu(m.a(x)), m.b(x)], 1)
        return m.head(m.wide(x).mean((2, 3)))

    placement = placed(body, wide=nn.Conv2d(8, 4, 1))
    assert placement.activations == {
        "x": False, "relu": True, "b": False, "cat": False, "wide": False, "mean": False,
    }  # fmt: skip


def test_2_concats_that_join_the_same_tensor_share_1_quantizer_of_all_4() -> None:
    def body(m: Any, x: Tensor) -> Any:
        one, other = m.relu(m.a(x)), m.relu(m.b(x))
        first = torch.cat([m.relu(m.wide(torch.cat([one, other], 1))), other], 1)
        return m.head(m.wide(first).mean((2, 3)))

    placement = placed(body, wide=nn.Conv2d(8, 4, 1))
    assert set(placement.activations) == {"x", "relu", "wide_1", "mean"}
    assert placement.repeats == {"relu_1": "relu", "cat": "relu", "relu_2": "relu", "cat_1": "relu"}


def test_2_halves_of_a_chunk_repeat_the_quantizer_and_the_tuple_has_none() -> None:
    def body(m: Any, x: Tensor) -> Any:
        one, other = m.relu(m.a(x)).chunk(2, dim=1)
        return m.head(m.b(torch.cat([other, one], 1)).mean((2, 3)))

    placement = placed(body)
    assert placement.repeats == {"getitem": "relu", "getitem_1": "relu", "cat": "relu"}
    assert "chunk" not in placement.activations
    assert placement.activations["relu"] is True


def test_a_dropout_has_no_quantizer_of_its_own() -> None:
    # While training it doubles what it lets through, and a quantizer behind it would clip that.
    placement = placed(lambda m, x: m.head(m.b(m.drop(m.relu(m.a(x)))).mean((2, 3))))
    assert placement.repeats == {}
    assert set(placement.activations) == {"x", "relu", "b", "mean"}


def test_an_identity_between_convolution_norm_and_relu_hides_none_of_the_3() -> None:
    placement = placed(lambda m, x: m.head(m.b(m.relu(m.same(m.normal(m.same(m.a(x)))))).mean((2, 3))))
    assert set(placement.activations) == {"x", "relu", "b", "mean"}


def test_a_view_by_the_batch_size_keeps_the_sign_and_its_number_has_no_quantizer() -> None:
    def body(m: Any, x: Tensor) -> Any:
        x = F.adaptive_avg_pool2d(m.relu(m.a(x)), 1)
        x = x.view(x.size(0), x.shape[1] + x.size(2) - 1)
        return m.head(m.hidden(x))

    placement = placed(body, hidden=nn.Linear(4, 4))  # its answers are read by a float layer alone
    assert placement.activations == {"x": False, "relu": True, "adaptive_avg_pool2d": True}
    assert placement.repeats == {"view": "adaptive_avg_pool2d"}


def test_a_last_convolution_that_is_averaged_is_quantized_and_the_average_is_not() -> None:
    placement = placed(lambda m, x: m.b(m.relu(m.a(x))).mean((2, 3)))
    assert placement.weights == ("a", "b")
    assert set(placement.activations) == {"x", "relu", "b"}
    assert placement.kept_float == {}


def test_2_heads_that_are_joined_stay_float_with_their_concat() -> None:
    def body(m: Any, x: Tensor) -> Any:
        x = m.relu(m.a(x))
        return torch.cat([m.b(x), m.c(x)], 1)

    placement = placed(body)
    assert set(placement.activations) == {"x", "relu"}
    assert set(placement.kept_float) == {"b", "c"}


def test_a_layer_called_2_times_has_1_weight_and_2_outputs() -> None:
    placement = placed(lambda m, x: m.head(m.a(m.a(x)).mean((2, 3))))
    assert placement.weights == ("a",)
    assert set(placement.activations) == {"x", "a", "a_1", "mean"}


def test_a_network_of_1_layer_is_refused() -> None:
    with pytest.raises(NetworkRefused, match="nothing to quantize"):
        placement_on(traced(nn.Sequential(nn.Linear(3, 2))))


def test_a_forward_that_branches_on_1_value_is_refused_in_words() -> None:
    def body(m: Any, x: Tensor) -> Any:
        return m.head(x) if x.sum() > 0 else m.head(-x)

    with pytest.raises(NetworkRefused, match="must not branch"):
        traced(Small(body))
