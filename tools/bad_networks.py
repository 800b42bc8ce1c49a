"""ONNX files and unlabelled inputs that the command must refuse: what bad_inputs.py runs it on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.models.convnet import ConvNet

SIDE = 16
WORDS, LENGTH = 50, 12  # of the network that takes texts
SHAPE: tuple[int | str, ...] = ("N", 3, SIDE, SIDE)
MEAN = helper.make_node("ReduceMean", ["h"], ["answers"], name="mean", axes=[2, 3], keepdims=0)  # (N, 3)


def write_networks(folder: Path) -> None:
    """The ONNX files: sound.onnx, and those that are each wrong in their own way."""
    torch.manual_seed(0)
    sound = onnx_from_torch(ConvNet(width=8, classes=4, channels=3).eval(), input_shape=(3, SIDE, SIDE))
    onnx.save(sound, folder / "sound.onnx")
    whole = (folder / "sound.onnx").read_bytes()
    (folder / "half.onnx").write_bytes(whole[: len(whole) // 2])
    (folder / "text.onnx").write_text("weights: 1 2 3\n")
    (folder / "nothing.onnx").write_bytes(b"")
    onnx.save(
        sound, folder / "alone.onnx", save_as_external_data=True, location="alone.bin", size_threshold=0
    )  # fmt: skip
    (folder / "alone.bin").unlink()
    relu = helper.make_node("Relu", ["pictures"], ["h"], name="relu")
    networks: dict[str, onnx.ModelProto] = {
        "open": network([relu, MEAN], [given("pictures", ("N", 3, "height", "width"))]),
        "pair": network(
            [helper.make_node("Add", ["left", "right"], ["h"]), MEAN], [given("left"), given("right")]
        ),
        "closed": network(
            [helper.make_node("Relu", ["c"], ["h"]), MEAN], [], {"c": np.ones((1, 3, 2, 2), np.float32)}
        ),
        "words": network(
            [helper.make_node("Cast", ["pictures"], ["h"], to=TensorProto.FLOAT), MEAN],
            [given("pictures", kind=TensorProto.INT64)],
        ),
        "bytes": network(
            [helper.make_node("Cast", ["pictures"], ["h"], to=TensorProto.FLOAT), MEAN],
            [given("pictures", kind=TensorProto.UINT8)],
        ),
        "codes": network(
            [helper.make_node("Cast", ["pictures"], ["codes"], name="codes", to=TensorProto.INT8),
             helper.make_node("Cast", ["codes"], ["h"], to=TensorProto.FLOAT), MEAN],
            [given("pictures")],
        ),
        "texts": network(
            [helper.make_node("Gather", ["table", "words"], ["h"]),
             helper.make_node("ReduceMean", ["h"], ["answers"], axes=[1], keepdims=0)],
            [given("words", ("N", LENGTH), kind=TensorProto.INT64)],
            {"table": np.ones((WORDS, 8), np.float32)},
        ),
        "branch": network([branch(), MEAN], [given("pictures")], {"yes": np.array(True)}),
        "loop": network(
            [loop(), MEAN], [given("pictures")], {"three": np.array(3, np.int64), "yes": np.array(True)}
        ),
        "own": network(
            [helper.make_node("Whiten", ["pictures"], ["h"], name="whitening", domain="acme"), MEAN],
            [given("pictures")],
        ),
        "integers": network([*pair(), MEAN], [given("pictures")], {"s": np.float32(0.1), "z": np.int8(0)}),
        "newer": network([relu, MEAN], [given("pictures")], opset=99),
    }  # fmt: skip
    for name, model in networks.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


def network(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    constants: dict[str, Any] | None = None,
    *,
    opset: int = 17,
) -> onnx.ModelProto:
    """A file with one output `answers`."""
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(
        list(nodes), "small", list(inputs), [helper.make_tensor_value_info("answers", TensorProto.FLOAT, None)], held
    )
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("acme", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


def given(name: str, shape: tuple[int | str, ...] = SHAPE, *, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    """An input of a file."""
    return helper.make_tensor_value_info(name, kind, shape)


def branch() -> NodeProto:
    """An If whose sides do the same."""
    side = helper.make_graph(
        [helper.make_node("Relu", ["pictures"], ["side"])], "side", [], [given("side")],
    )  # fmt: skip
    return helper.make_node("If", ["yes"], ["h"], name="choice", then_branch=side, else_branch=side)


def loop() -> NodeProto:
    """A Loop that doubles its input three times."""
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    on, still = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("on", "still"))
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Add", ["had", "had"], ["has"])], "body",
        [turn, on, given("had")], [still, given("has")],
    )  # fmt: skip
    return helper.make_node("Loop", ["three", "yes", "pictures"], ["h"], name="turns", body=body)


def pair() -> list[NodeProto]:
    """A quantizer and its dequantizer."""
    return [
        helper.make_node("QuantizeLinear", ["pictures", "s", "z"], ["q"], name="quantizer"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["h"]),
    ]


def write_unlabelled(folder: Path) -> None:
    """Folders of inputs without labels, each wrong in its own way."""
    random = np.random.default_rng(0)
    pictures = random.normal(size=(40, 3, SIDE, SIDE)).astype(np.float32)
    arrays: dict[str, np.ndarray] = {
        "wide": np.zeros((30, 3, SIDE, SIDE + 1), np.float32),
        "last-channels": pictures.transpose(0, 2, 3, 1),
        "letters": np.array(["a", "b", "c"] * 10),
        "same": np.concatenate([pictures[:5]] * 10),
        "not-numbers": np.where(pictures > 3, np.nan, pictures),
        "no-rows": pictures[:0],
    }
    texts = random.integers(0, WORDS, size=(40, LENGTH))
    texts[:, 0] = np.arange(40)
    arrays |= {
        "broken-words": texts + 0.5,
        "strange-words": texts + 20,
        "long-texts": np.concatenate([texts, texts[:, :1]], axis=1),
    }
    for name, values in arrays.items():
        (folder / name).mkdir()
        np.save(folder / name / "all.npy", values)
    (folder / "pickled").mkdir()
    np.save(folder / "pickled" / "all.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    (folder / "unreadable").mkdir()
    for number in range(30):
        (folder / "unreadable" / f"{number}.jpg").write_bytes(b"no picture")
