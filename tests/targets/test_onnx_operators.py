"""Which products the runtime makes integer, read from what it wrote; and why it left the others."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from targets.engines.onnx_operators import operators_in, operators_of
from targets.engines.ort import OnnxRuntime
from targets.errors import EngineRefused
from targets.runner import OperatorRow, Operators


def one_product(path: Path, *, kind: str, pairs: str, between: str = "") -> Path:
    """One Conv or MatMul; pairs names the sides that carry Q/DQ: i(nput), w(eight), o(utput)."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: object) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def pair(tensor: str) -> str:
        names = [constant(f"{tensor}_scale", np.float32(0.02)), constant(f"{tensor}_zero", np.uint8(128))]
        nodes.append(helper.make_node("QuantizeLinear", [tensor, *names], [f"{tensor}_codes"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{tensor}_codes", *names], [f"{tensor}_real"]))
        return f"{tensor}_real"

    weight = np.random.default_rng(0).integers(-60, 60, (8, 3, 3, 3) if kind == "Conv" else (12, 8))
    tensor = pair("input") if "i" in pairs else "input"
    if between:
        nodes.append(helper.make_node(between, [tensor], ["between"]))
        tensor = "between"
    if "w" in pairs:
        names = [constant("codes", weight.astype(np.int8)), constant("scale", np.float32(0.01))]
        nodes.append(helper.make_node("DequantizeLinear", [*names, constant("zero", np.int8(0))], ["weight"]))
    else:
        constant("weight", (0.01 * weight).astype(np.float32))
    nodes.append(helper.make_node(kind, [tensor, "weight"], ["product"], name="product"))
    last = pair("product") if "o" in pairs else "product"
    nodes.append(helper.make_node("Softsign", [last], ["output"]))  # takes no part in any fusion
    shape = ["N", 3, 8, 8] if kind == "Conv" else ["N", 12]
    graph = helper.make_graph(
        nodes, "one",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        constants,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def in_the_engine(model: Path) -> Operators:
    engine = model.with_suffix(".engine.onnx")
    OnnxRuntime().build(model, engine, threads=1)
    return OnnxRuntime().operators(engine)


def test_the_quantized_network_holds_3_integer_products_and_no_float_one(quantized_onnx: Path) -> None:
    operators = in_the_engine(quantized_onnx)
    assert (operators.integer, operators.floating) == (3, 0)
    assert [row.kind for row in operators.rows] == ["QLinearConv", "QLinearConv", "QGemm"]
    assert all(row.why == "" for row in operators.rows)


def test_the_float_network_holds_3_float_products_with_their_reasons(float_onnx: Path) -> None:
    operators = in_the_engine(float_onnx)
    assert (operators.integer, operators.floating) == (0, 3)
    assert {row.why for row in operators.rows} == {"input not quantized, weight not quantized, output not quantized"}


@pytest.mark.parametrize(
    ("kind", "pairs", "why"),
    [
        ("Conv", "iw", "output not quantized"),
        ("Conv", "wo", "input not quantized"),
        ("Conv", "w", "input not quantized, output not quantized"),
        ("Conv", "i", "weight not quantized, output not quantized"),
        ("MatMul", "io", "weight not quantized"),
        ("MatMul", "wo", "input not quantized"),
    ],
)
def test_a_product_with_a_side_left_float_says_which_of_3(tmp_path: Path, kind: str, pairs: str, why: str) -> None:
    operators = in_the_engine(one_product(tmp_path / "one.onnx", kind=kind, pairs=pairs))
    assert [(row.integer, row.why) for row in operators.rows] == [(False, why)]


@pytest.mark.parametrize(("kind", "pairs"), [("Conv", "iwo"), ("MatMul", "iwo"), ("MatMul", "iw")])
def test_a_product_with_its_pairs_is_1_integer_operator(tmp_path: Path, kind: str, pairs: str) -> None:
    operators = in_the_engine(one_product(tmp_path / "one.onnx", kind=kind, pairs=pairs))
    assert (operators.integer, operators.floating) == (1, 0)


def test_a_sigmoid_between_pair_and_product_leaves_the_input_float(tmp_path: Path) -> None:
    operators = in_the_engine(one_product(tmp_path / "one.onnx", kind="Conv", pairs="iwo", between="Sigmoid"))
    assert [row.why for row in operators.rows] == ["input not quantized"]


def test_an_integer_weight_multiplied_as_float_is_no_integer_product(tmp_path: Path) -> None:
    (row,) = in_the_engine(one_product(tmp_path / "one.onnx", kind="MatMul", pairs="w")).rows
    assert not row.integer
    assert row.why.startswith("input not quantized")


def graph_of(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph(list(nodes), "by hand", [], []))


def test_every_kind_of_product_counts_and_7_other_kinds_do_not() -> None:
    products = {
        True: ("QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "DynamicQuantizeMatMul",
               "MatMulIntegerToFloat", "QAttention"),
        False: ("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulNBits",
               "LSTM"),
    }  # fmt: skip
    for integer, kinds in products.items():
        for kind in kinds:
            for domain in ("", "com.microsoft", "com.microsoft.nchwc"):
                operators = operators_in(graph_of(helper.make_node(kind, ["a", "b"], ["c"], domain=domain)))
                assert (operators.integer, operators.floating) == (int(integer), int(not integer)), kind
    others = ("Relu", "QLinearAdd", "QLinearGlobalAveragePool", "MaxPool", "QuantizeLinear", "Softmax", "Add")
    assert operators_in(graph_of(*(helper.make_node(kind, ["a"], ["b"]) for kind in others))).rows == ()


def test_a_product_of_two_activations_needs_both_quantized_to_be_1_integer_product() -> None:
    dequantized = helper.make_node("DequantizeLinear", ["codes", "scale"], ["q"])
    product = helper.make_node("MatMul", ["q", "k"], ["scores"], name="attention")
    quantize = helper.make_node("QuantizeLinear", ["scores", "scale"], ["out"])
    operators = operators_in(graph_of(dequantized, product, quantize))
    assert operators.rows == (OperatorRow("attention", "MatMul", False, "input not quantized"),)


def test_a_product_quantized_on_3_sides_but_left_float_blames_its_form() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["x_codes", "scale"], ["x"]),
        helper.make_node("Transpose", ["x"], ["turned"]),
        helper.make_node("DequantizeLinear", ["w_codes", "scale"], ["w"]),
        helper.make_node("Conv", ["turned", "w"], ["y"]),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "scale"], ["out"]),
    ]
    (row,) = operators_in(graph_of(*nodes)).rows
    assert (row.name, row.integer) == ("Conv_3", False)
    assert "no integer kernel" in row.why


def test_a_product_inside_1_branch_of_an_if_is_found() -> None:
    branch = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"], name="inner")], "branch", [], [])
    choice = helper.make_node("If", ["which"], ["d"], then_branch=branch, else_branch=branch)
    assert [row.name for row in operators_in(graph_of(choice)).rows] == ["inner", "inner"]


def test_a_file_of_9_letters_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_bytes(b"a letter.")
    with pytest.raises(EngineRefused, match="cannot be read as ONNX"):
        operators_of(tmp_path / "text.onnx")
