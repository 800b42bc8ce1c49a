"""What is read from TensorRT-RTX's log, on ten lines of three builds as written, and of a process that fails.

The lines: version 1.7.1.116, compute capability 8.6; a recurrent network, MobileNetV1-0.25, a text encoder in float16.
"""

from pathlib import Path

import pytest

from targets.engines import tensorrt_rtx
from targets.engines.tensorrt_rtx import compiled_ahead
from targets.engines.tensorrt_rtx_log import EngineTensor, layers_from_log, products_in_engine
from targets.errors import EngineFailed, EngineMissing, EngineRefused
from targets.runner import OperatorRow, Operators

LOG = (Path(__file__).parent / "recorded" / "tensorrt_rtx_1.7.1.log").read_text(encoding="utf-8")


def test_10_layers_are_read_with_their_kinds_and_factors() -> None:
    layers = layers_from_log(LOG)
    assert [(each.kind, each.datatypes) for each in layers] == [
        ("memset", ()),
        ("kgen", ("Int8", "Int8")),
        ("gemm", ("Int8", "Int8")),
        ("cjmp", ("Int32", "Int32")),
        ("gemm", ("Int8", "Int8")),
        ("kgen", ("Float",)),
        ("runtime_fusion", ("Int8", "Float")),
        ("correlation", ("Int8", "Int8")),
        ("kgen", ("Half", "Half")),
        ("gemm", ("Int8", "Int8")),
    ]
    assert [each.multiplies_integers for each in layers] == [False, True, True, False, True] + [False] * 2 + [
        True, False, True,
    ]  # fmt: skip
    assert layers[2].name == "$$myelin$$(Unnamed Loop* 0)^(Unnamed Layer* 98) [Matrix Multiply]_myl0_9"
    hidden = layers[4]
    assert hidden.name == "/hidden/Gemm_myl0_25"
    assert hidden.inputs == (EngineTensor("__mye4336/hidden/Gemm_output.1_1_myl0", (1, 32), "Int8"),)
    assert [each.dimensions for each in hidden.constants] == [(32, 16), (1,), (1,)]  # the weight, then two factors
    assert [each.datatype for each in hidden.outputs] == ["Float"]
    assert hidden.onnx_nodes == (
        "/hidden/Gemm", "/getitem_4/DequantizeLinear", "/hidden/quantizer/DequantizeLinear",
    )  # fmt: skip


def test_of_8_products_4_are_integer_and_the_others_say_which_layer_reads_what() -> None:
    names = [
        "/hidden/Gemm",
        "/conv/Conv",
        "/fc/Gemm",
        "/query/MatMul",
        "/MatMul_1",
        "/head/Gemm",
        "/value/MatMul",
        "/x",
    ]
    asked = Operators(0, 8, tuple(OperatorRow(name, "", False, "") for name in names))
    found = products_in_engine(asked, layers_from_log(LOG))
    assert (found.integer, found.floating) == (4, 4)
    assert [(each.name, each.kind) for each in found.rows if each.integer] == [
        ("/hidden/Gemm", "gemm"), ("/conv/Conv", "kgen"), ("/query/MatMul", "gemm"), ("/value/MatMul", "gemm"),
    ]  # fmt: skip
    assert {each.name: each.why for each in found.rows if not each.integer} == {
        "/fc/Gemm": "__myl_CastMulFc_myl0_55 (runtime_fusion) reads Int8 with Float",
        "/MatMul_1": "_gemm_mha_v2_myl0_6 (kgen) reads Half with Half",
        "/head/Gemm": "__myl_MulAddReluMulMinMaxRounCastCastMulReshMulSum_myl0_26 (kgen) reads Float",
        "/x": "no layer of the engine names it",
    }


def test_a_generated_layer_that_casts_before_it_convolves_is_float_whatever_it_reads() -> None:
    converted = LOG.replace("__myl_MoveConcCorrMulAddRelu", "__myl_MoveConcCastMulCorrAddRelu")
    layer = layers_from_log(converted)[1]
    assert layer.datatypes == ("Int8", "Int8")
    assert not layer.multiplies_integers


def test_a_log_without_a_list_has_0_layers_and_1_of_another_form_is_refused() -> None:
    assert layers_from_log("[V] Engine generation completed in 1.78658 seconds.\n") == ()
    with pytest.raises(ValueError, match="not a line of TensorRT-RTX's list of layers: Layer 0: conv"):
        layers_from_log("[V] Layers:\nLayer 0: conv\n\n")


def test_without_the_package_1_sentence_says_how_to_install_it(
    float_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_rtx, "MODULE", "no_such_package")
    with pytest.raises(EngineMissing, match=r"pip install 'edge-compress\[tensorrt-rtx\]'"):
        compiled_ahead(float_onnx)


@pytest.mark.parametrize(
    ("does", "limit_s", "said"),
    [
        ("print('Error 35', flush=True); os.kill(os.getpid(), signal.SIGSEGV)", 60, r"signal 11 .* Error 35"),
        ("sys.exit(3)", 60, r"exit code 3 .* nothing"),
        ("pass", 60, r"exit code 0 .* nothing"),  # it wrote no result
        ("time.sleep(60)", 0.3, r"did not build .* in 0\.3 s"),
    ],
)
def test_a_compiler_that_fails_in_1_of_4_ways_is_1_sentence_and_does_not_take_us_along(
    does: str, limit_s: float, said: str, float_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = tmp_path / "packages" / "targets" / "engines" / "tensorrt_rtx_build.py"
    stand_in.parent.mkdir(parents=True)
    for folder in (stand_in.parent, stand_in.parent.parent):
        (folder / "__init__.py").touch()  # else an installed package of that name comes first
    stand_in.write_text(f"import os, signal, sys, time\n{does}\n", encoding="utf-8")
    monkeypatch.setattr(tensorrt_rtx, "PACKAGES", tmp_path / "packages")
    monkeypatch.setattr(tensorrt_rtx, "MODULE", "json")  # one that is there
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(EngineFailed, match=said):
        compiled_ahead(float_onnx, limit_s=limit_s)


def test_a_file_that_is_not_there_is_refused_before_any_of_1_process_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_rtx, "MODULE", "json")
    with pytest.raises(EngineRefused, match="There is no ONNX file"):
        compiled_ahead(tmp_path / "none.onnx")
