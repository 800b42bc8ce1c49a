"""Text encoders as exporters write them: whole numbers come in, places and masks are computed, 3 ways to spell a norm.

Tolerance everywhere: 1e-5 of the largest answer, because float32 sums are taken in another order.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, fx, nn

from pipeline.data.onnx_door import taken_by
from pipeline.errors import NetworkRefused
from pipeline.graph.foreign_operator import ForeignOperator
from pipeline.graph.module_from_onnx import module_from_onnx
from pipeline.models.text_encoder import TextEncoder
from pipeline.quantization.insert import watched
from pipeline.stages.export import answers_of_onnx, onnx_of

WORDS, LENGTH, WIDTH, HEADS = 50, 24, 16, 2


class Usual(nn.Module):
    """One block in the usual way: places from the shape, kinds of zeros, a mask made in floating point and expanded."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.kinds = (nn.Embedding(rows, WIDTH) for rows in (WORDS, 40, 2))
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.widen, self.head = nn.Linear(WIDTH, 32), nn.Linear(32, 5)

    def forward(self, ids: Tensor) -> Tensor:
        count, length = ids.shape
        real = (ids != 0)[:, None, None, :].expand(count, 1, length, length).to(torch.float32)
        absent = 1.0 - real
        mask = absent.masked_fill(absent.to(torch.bool), torch.finfo(torch.float32).min)
        places = torch.arange(length, dtype=torch.long)[None].expand(count, length)
        kinds = torch.zeros(count, length, dtype=torch.long)
        x = self.norm1(self.words(ids) + self.places(places) + self.kinds(kinds))

        def heads(values: Tensor) -> Tensor:
            return values.view(values.shape[0], values.shape[1], HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)

        scores = heads(self.query(x)) @ heads(self.key(x)).transpose(-1, -2) / 3.0 + mask
        mixed = (scores.softmax(-1) @ heads(self.value(x))).permute(0, 2, 1, 3).contiguous().view(count, length, WIDTH)
        answer: Tensor = self.head(nn.functional.gelu(self.widen(self.norm2(x + mixed)))[:, 0])
        return answer


def own() -> nn.Module:
    return TextEncoder(words=WORDS, classes=5, length=LENGTH, depth=1, width=WIDTH, heads=HEADS)


CASES: dict[str, tuple[Callable[[], nn.Module], torch.dtype, int, bool]] = {
    "ours, int64": (own, torch.int64, 17, True),
    "ours, int32, one text": (own, torch.int32, 17, False),
    "ours, numbers of the words as float32": (own, torch.float32, 17, False),
    "usual, operator set 17": (Usual, torch.int64, 17, True),
    "usual, operator set 13, norms in 9 pieces": (Usual, torch.int64, 13, True),
    "usual, operator set 11": (Usual, torch.int64, 11, True),
}
KINDS = {torch.int64: TensorProto.INT64, torch.int32: TensorProto.INT32, torch.float32: TensorProto.FLOAT}


LONG, TRUTH, FLOAT = ({"to": kind} for kind in (TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT))


def exported(case: str, folder: Path) -> Path:
    make, kind, opset, free = CASES[case]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = make().eval()
        for weight in module.parameters():
            nn.init.normal_(weight, std=0.3)
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (texts(2 if free else 1).to(kind),), written, dynamo=False, opset_version=opset,  # type: ignore[arg-type]
            input_names=["ids"], output_names=["scores"],
            dynamic_axes={"ids": {0: "n"}, "scores": {0: "n"}} if free else None,
        )  # fmt: skip
    path = folder / "encoder.onnx"
    path.write_bytes(written.getvalue())
    return path


def texts(count: int) -> Tensor:
    """Numbers of words (N, T), each text of another length, filled up with 0."""
    random = np.random.default_rng(2)
    ids = random.integers(1, WORDS, (count, LENGTH))
    for row, length in enumerate(random.integers(3, LENGTH + 1, count)):
        ids[row, length:] = 0
    return torch.from_numpy(ids)


def answers_of_file(path: Path, ids: Tensor, kind: torch.dtype) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"ids": ids[row : row + 1].to(kind).numpy()})[0] for row in range(len(ids))]
    return np.concatenate(rows)


@pytest.mark.parametrize("case", CASES)
def test_6_encoders_answer_7_texts_as_onnx_runtime_does_and_take_again_what_they_took(
    case: str, tmp_path: Path
) -> None:
    path, kind, ids = exported(case, tmp_path), CASES[case][1], texts(7)
    expected = answers_of_file(path, ids, kind)
    room = 1e-5 * np.abs(expected).max()
    network = module_from_onnx(path)
    with torch.inference_mode():
        np.testing.assert_allclose(network(ids.float()).numpy(), expected, rtol=0, atol=room)
    layers = list(network.modules())
    assert not [each for each in layers if isinstance(each, ForeignOperator)]
    assert [sum(isinstance(each, one) for each in layers) for one in (nn.Embedding, nn.GELU)] == [1, 1]
    assert sum(isinstance(each, nn.LayerNorm) for each in layers) == (2 if "usual" in case else 3)
    again = tmp_path / "again.onnx"
    model = onnx_of(network, input_shape=(LENGTH,))
    onnx.save(model, again)
    assert [each.type.tensor_type.elem_type for each in model.graph.input] == [KINDS[kind]]
    np.testing.assert_allclose(answers_of_onnx(again, ids.float().numpy()), expected, rtol=0, atol=room)


def test_the_file_of_an_encoder_is_quantized_where_its_torch_network_is(tmp_path: Path) -> None:
    _, ours = watched(own())
    for case in ("ours, int64", "ours, numbers of the words as float32"):
        _, read = watched(module_from_onnx(exported(case, tmp_path)))
        assert [name.replace(".", "_") for name in ours.weights] == list(read.weights)
        assert (len(read.activations), len(read.repeats)) == (len(ours.activations), len(ours.repeats))


def test_an_encoder_takes_places_in_a_table_of_50_rows_and_pictures_none(
    tmp_path: Path, saved: Callable[..., Path]
) -> None:
    for case in ("usual, operator set 11", "ours, int32, one text", "ours, numbers of the words as float32"):
        taken = taken_by(exported(case, tmp_path))
        assert (taken.shape, taken.below, taken.whole) == ((LENGTH,), WORDS, True)
    taken = taken_by(saved([("Relu", ["x"], "y", {})], shape=("n", 3, 4)))
    assert (taken.shape, taken.kind, taken.below, taken.whole) == ((3, 4), "float32", None, False)


def test_places_of_words_are_added_in_float_although_the_next_layer_multiplies_integers(
    saved: Callable[..., Path],
) -> None:
    random = np.random.default_rng(0)
    shapes = {"table": (WORDS, 8), "places": (1, 6, 8), "first": (8, 8), "second": (8, 3)}
    constants = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    steps = [
        ("Cast", ["x"], "i", LONG), ("Gather", ["table", "i"], "w", {}), ("Add", ["places", "w"], "a", {}),
        ("MatMul", ["a", "first"], "f", {}), ("Relu", ["f"], "r", {}), ("MatMul", ["r", "second"], "y", {}),
    ]  # fmt: skip
    _, placement = watched(module_from_onnx(saved(steps, shape=("n", 6), constants=constants)))
    assert list(placement.weights) == ["node_3"]
    assert list(placement.activations) == ["node_2", "node_4"]  # the sum and the ReLU: neither words nor places


Steps = Sequence[tuple[Any, ...]]
SMALL: dict[str, tuple[Steps, dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "a quotient is cut": ([("Div", ["i", "three"], "w", {})], {"three": 3}, lambda i: np.trunc(i / 3)),
    "a whole number stays whole": ([("Mul", ["i", "three"], "w", {})], {"three": 3}, lambda i: i * 3),
    "clipped": ([("Clip", ["i", "low", "high"], "w", {})], {"low": -1, "high": 2}, lambda i: np.clip(i, -1, 2)),
    "equal or below": (
        [("Equal", ["i", "three"], "e", {}), ("Less", ["i", "low"], "l", {}), ("Or", ["e", "l"], "w", {})],
        {"three": 3, "low": -1}, lambda i: (i == 3) | (i < -1),
    ),
    "greater and not": (
        [("GreaterOrEqual", ["i", "low"], "g", {}), ("Equal", ["i", "three"], "e", {}), ("Not", ["e"], "n", {}),
         ("And", ["g", "n"], "w", {})],
        {"three": 3, "low": -1}, lambda i: (i >= -1) & (i != 3),
    ),
    "one of two numbers": (
        [("LessOrEqual", ["i", "low"], "l", {}), ("Where", ["l", "three", "low"], "w", {})],
        {"three": 3, "low": -1}, lambda i: np.where(i <= -1, 3, -1),
    ),
    "a number where it is so": (
        [("Greater", ["i", "low"], "g", {}), ("Where", ["g", "three", "i"], "w", {})],
        {"three": 3, "low": -1}, lambda i: np.where(i > -1, 3, i),
    ),
    "a number where it is not so": (
        [("Cast", ["i"], "t", TRUTH), ("Where", ["t", "i", "three"], "w", {})],
        {"three": 3}, lambda i: np.where(i != 0, i, 3),
    ),
    "another table": (
        [("Abs", ["i"], "a", {}), ("Gather", ["row", "a"], "w", {})],
        {"row": [5, 4, 3, 2, 1, 0, 9, 9]}, lambda i: np.array([5, 4, 3, 2, 1, 0, 9, 9])[np.abs(i)],
    ),
    "all of them": ([("ReduceSum", ["i", "axis"], "w", {})], {"axis": [1]}, lambda i: i.sum(1, keepdims=True)),
}  # fmt: skip


@pytest.mark.parametrize("case", SMALL)
def test_10_steps_in_whole_numbers_give_what_numpy_gives(case: str, saved: Callable[..., Path]) -> None:
    steps, numbers, wanted = SMALL[case]
    steps = [("Cast", ["x"], "i", LONG), *steps, ("Cast", ["w"], "y", FLOAT)]
    constants = {name: np.array(value, np.int64) for name, value in numbers.items()}
    network = module_from_onnx(saved(steps, shape=("n", 6), constants=constants))
    inputs = np.array([[-2, -1, 0, 1, 3, 5], [0, 3, 2, -5, 4, 1]], np.float32)
    expected = wanted(inputs.astype(np.int64)).astype(np.float32)
    np.testing.assert_array_equal(network(torch.from_numpy(inputs)).numpy(), expected)
    assert not [each for each in network.modules() if isinstance(each, ForeignOperator)]


def test_numbers_of_8_bits_are_refused_with_the_node_and_what_is_supported(saved: Callable[..., Path]) -> None:
    steps = [("Cast", ["x"], "i", {"to": TensorProto.INT8}), ("Cast", ["i"], "y", FLOAT)]
    with pytest.raises(NetworkRefused, match=r"Cast node 'node_0' turns values of the network into int8; .*int64"):
        module_from_onnx(saved(steps, shape=("n", 6)))


def test_a_number_that_is_first_in_the_batch_of_3_is_refused_although_it_differs_by_1(
    saved: Callable[..., Path],
) -> None:
    steps = [("Cast", ["x"], "i", LONG), ("CumSum", ["i", "axis"], "s", {"reverse": 1}), ("Cast", ["s"], "y", FLOAT)]
    path = saved(steps, shape=("n", 6), constants={"axis": np.array(0)})
    with pytest.raises(NetworkRefused, match="CumSum node 'node_1' does not keep the inputs of a batch apart"):
        module_from_onnx(path)


def test_the_word_at_a_computed_place_is_refused_for_the_second_of_2_texts_would_take_it_from_the_first(
    saved: Callable[..., Path],
) -> None:
    places = [("ArgMax", ["x"], "p", {"axis": 1, "keepdims": 0}), ("Reshape", ["x", "flat"], "f", {})]
    constants = {"flat": np.array([-1]), "one": np.array([-1, 1])}
    gathered = [*places, ("Gather", ["f", "p"], "y", {})]
    with pytest.raises(NetworkRefused, match="Gather node 'node_2' takes computed places out of computed values"):
        module_from_onnx(saved(gathered, shape=("n", 6), constants=constants))
    kept = [*places, ("Reshape", ["p", "one"], "q", {}), ("GatherND", ["f", "q"], "y", {})]
    with pytest.raises(NetworkRefused, match="answers an input by its place in the batch"):
        module_from_onnx(saved(kept, shape=("n", 6), constants=constants))


def test_a_norm_in_pieces_whose_mean_runs_over_2_axes_stays_in_pieces(
    saved: Callable[..., Path], same_answers: Callable[..., fx.GraphModule]
) -> None:
    constants = {
        "two": np.float32(2),
        "e": np.float32(1e-5),
        "g": np.full(4, 2, np.float32),
        "b": np.ones(4, np.float32),
    }
    for axes, norms in (([-1], 1), ([2], 1), ([1, 2], 0)):
        steps = [
            ("ReduceMean", ["x"], "m", {"axes": axes}), ("Sub", ["x", "m"], "d", {}), ("Pow", ["d", "two"], "p", {}),
            ("ReduceMean", ["p"], "v", {"axes": axes}), ("Add", ["v", "e"], "a", {}), ("Sqrt", ["a"], "s", {}),
            ("Div", ["d", "s"], "n", {}), ("Mul", ["n", "g"], "z", {}), ("Add", ["z", "b"], "y", {}),
        ]  # fmt: skip
        network = same_answers(saved(steps, shape=("n", 3, 4), constants=constants), shape=(3, 4))
        assert sum(isinstance(each, nn.LayerNorm) for each in network.modules()) == norms
