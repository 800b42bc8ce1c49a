"""What an engine is made of, out of the engine inspector's JSON: which layers run in 8-bit integers, and why not.

    {"Layers": [{"Name", "LayerType", "ParameterType", "Inputs": [{"Format/Datatype", …}], "Outputs",
                 "Weights": {"Type"}, "TacticName", "Metadata", "Origin"}, …], "Bindings": […]}

An engine that was built without detailed profiling has a name (a string) for each layer and no more. A format is told
as "Thirty-two wide channel vectorized row major Int8 format" by 8.x, "Row major linear FP32" and "Int8 NC/32HW32"
later, and as "N/A due to dynamic shapes" where it is not fixed.

A layer counts as integer where it multiplies or moves 8-bit integers: by its weights and its first input; where those
do not say, by the name of its tactic (i8i8_i8i32). A reformat changes type or layout and counts as none.
"""

from __future__ import annotations

import json
import re
from typing import Any

TYPES = {
    "int8": "INT8", "uint8": "UINT8", "fp16": "FP16", "half": "FP16", "float16": "FP16", "bf16": "BF16",
    "bfloat16": "BF16", "fp32": "FP32", "float": "FP32", "float32": "FP32", "fp8": "FP8", "fp4": "FP4", "int4": "INT4",
    "int32": "INT32", "int64": "INT64", "bool": "BOOL",
}  # fmt: skip
WORD = re.compile(r"(?<![a-z0-9])(" + "|".join(sorted(TYPES, key=len, reverse=True)) + r")(?![a-z0-9])")
INTEGER_TACTIC = re.compile(r"i8i8|int8|imma", re.I)
WEIGHTED = re.compile(r"conv|gemm|matrixmultiply|matmul|fullyconnected|fc", re.I)
PRODUCT = re.compile(r"(?:^|[/_ (])(?:Conv|ConvTranspose|Gemm|MatMul)(?:[_\d]|$|[ )])")  # as torch names nodes
UNKNOWN = "unknown"


def layer_rows(information: Any) -> list[dict[str, Any]]:
    """[{"name", "kind", "precision", "integer", "why", "product"}] in the order of execution."""
    if isinstance(information, (str, bytes)):
        information = json.loads(information, strict=False)
    listed = _value(information, "Layers") if isinstance(information, dict) else information
    return [_row(layer) for layer in listed or []]


def counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many layers there are, how many are integer, how many only reformat."""
    return {
        "layers": len(rows),
        "integer": sum(row["integer"] for row in rows),
        "reformats": sum(row["kind"] == "Reformat" for row in rows),
    }


def float_remark(rows: list[dict[str, Any]], *, strong: bool) -> str:
    """What is to be said where the types of the graph held, and its real numbers were float32."""
    real = {row["precision"] for row in rows if row["kind"] != "Reformat"} & {"FP16", "BF16", "FP32"}
    if not strong or real != {"FP32"}:
        return ""
    return (
        "What is not INT8 runs in FP32: a strongly typed engine has the types of its graph. FP16 wants a float16 ONNX."
    )


def with_times(rows: list[dict[str, Any]], times: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their times; a layer that only the profile names gets a row that says so."""
    left = dict(times)
    merged = []
    for row in rows:
        found = left.pop(row["name"], None)
        merged.append({**row, "median_ms": found["ms"] if found else 0.0, **_remark(found)})
    for name, found in left.items():
        row = _row(name)
        merged.append({**row, "median_ms": found["ms"], **_remark(found), "why": "the inspector does not list it"})
    return merged


def _remark(found: dict[str, Any] | None) -> dict[str, str]:
    return {"statistic": "not timed" if found is None else found["statistic"]}


def _row(layer: Any) -> dict[str, Any]:
    if not isinstance(layer, dict):
        return {
            "name": str(layer), "kind": UNKNOWN, "precision": UNKNOWN, "integer": False,
            "product": is_product(str(layer), UNKNOWN),
            "why": "the engine keeps the layer's name and nothing else: it was built without detailed profiling",
        }  # fmt: skip
    name = str(_value(layer, "Name") or "")
    kind = _kind(layer)
    reads, writes = _types(layer, "Inputs"), _types(layer, "Outputs")
    if kind == "Reformat":
        precision, integer, why = writes[0], False, _why_reformat(layer, reads, writes)
    else:
        precision, integer, why = _computed_in(layer, kind, reads, writes)
    return {
        "name": name, "kind": kind, "precision": precision, "integer": integer, "why": why,
        "product": is_product(name, kind),
    }  # fmt: skip


def is_product(name: str, kind: str) -> bool:
    """Whether it is a convolution or a matrix product: by its kind, or by the ONNX nodes in its name."""
    return kind != "Reformat" and bool(WEIGHTED.search(kind) or PRODUCT.search(name))


def _kind(layer: dict[str, Any]) -> str:
    """What it computes; how it is implemented where that alone is told (kgen: fused by the compiler)."""
    found = str(_value(layer, "ParameterType") or _value(layer, "LayerType") or UNKNOWN)
    return "Reformat" if found.lower() in ("reformat", "reformatting") else found


def _computed_in(layer: dict[str, Any], kind: str, reads: list[str], writes: list[str]) -> tuple[str, bool, str]:
    weights = _value(layer, "Weights")
    held = _type_in(str(_value(weights, "Type") or "")) if isinstance(weights, dict) else UNKNOWN
    tactic = str(_value(layer, "TacticName") or "")
    told = bool(INTEGER_TACTIC.search(tactic))
    if held != UNKNOWN:
        if held == "INT8" and reads[0] in ("INT8", UNKNOWN):
            return "INT8", True, "weights and input are 8-bit integers"
        if held == "INT8":
            return reads[0], False, f"its weights are 8-bit integers, but it reads {reads[0]}: no quantizer before it"
        return held, False, f"its weights are {held}: no quantizer on them, or the builder found {held} faster"
    if told:
        return "INT8", True, f"its tactic is {tactic[:60]}"
    if reads[0] == "INT8":
        return "INT8", True, "reads 8-bit integers"
    seen = reads[0] if reads[0] != UNKNOWN else writes[0]
    if seen == UNKNOWN:
        return UNKNOWN, False, "the engine does not tell its types"
    weighted = WEIGHTED.search(kind) or WEIGHTED.search(tactic)
    return seen, False, f"reads {seen}" + (": no quantizer before it" if weighted else "")


def _why_reformat(layer: dict[str, Any], reads: list[str], writes: list[str]) -> str:
    origin = str(_value(layer, "Origin") or "")
    if reads[0] == writes[0]:
        said = f"changes the layout of {reads[0]}"
    elif writes[0] == "INT8":
        said = f"quantizes {reads[0]} to INT8"
    elif reads[0] == "INT8":
        said = f"dequantizes INT8 to {writes[0]}"
    else:
        said = f"turns {reads[0]} into {writes[0]}"
    return f"{said} (origin {origin})" if origin else said


def _types(layer: dict[str, Any], side: str) -> list[str]:
    found = []
    for tensor in _value(layer, side) or []:
        text = str(tensor)
        if isinstance(tensor, dict):
            named = [_value(tensor, key) for key in ("Format/Datatype", "Datatype", "Data Type", "Type")]
            text = " ".join(str(each) for each in named if each)
        found.append(_type_in(text))
    return found or [UNKNOWN]


def _type_in(text: str) -> str:
    found = WORD.search(text.lower())
    return TYPES[found.group(1)] if found else UNKNOWN


def _value(row: Any, key: str) -> Any:
    """The value of a key, however it is capitalized."""
    for each, value in row.items():
        if each.lower() == key.lower():
            return value
    return None
