"""Which convolutions and matrix products OpenVINO computes in integers, and what each operator takes.

Read from the graph after OpenVINO has compiled it for this processor. Each of its nodes says what kind of layer it is
(`layerType`), which kernel was chosen (`primitiveType`, such as jit_avx2_I8), and in which precision it computes.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any

from targets.runner import LayerTime, OperatorRow, Operators

# The CPU plugin's words for products; recurrent cells and attention are matrix products in one operator.
PRODUCTS = frozenset({
    "Convolution", "Deconvolution", "DeformableConvolution", "FullyConnected", "MatMul", "RNNCell", "RNNSeq",
    "ScaledDotProductAttention", "MHA",
})  # fmt: skip
INTEGERS = ("i8", "u8")
WITHOUT_BIAS = "/WithoutBiases"  # what its ONNX reader puts behind the name of a convolution
MS_PER_S = 1000.0


def operators_in_compiled(model: Any) -> Operators:
    """The convolutions and matrix products of a compiled model, in the order of execution."""
    rows = []
    for node in model.get_runtime_model().get_ordered_ops():
        layer = _fact(node, "layerType")
        if layer in PRODUCTS:
            integer = _fact(node, "runtimePrecision") in INTEGERS
            name = node.get_friendly_name().removesuffix(WITHOUT_BIAS)
            kind = f"{layer} {_fact(node, 'primitiveType')}"
            rows.append(OperatorRow(name, kind, integer, "" if integer else _why_float(node)))
    integers = sum(row.integer for row in rows)
    return Operators(integer=integers, floating=len(rows) - integers, rows=tuple(rows))


def layer_times_in(runs: Sequence[Sequence[Any]]) -> tuple[LayerTime, ...]:
    """The median time of each operator that was executed, in the order of execution.

    runs: the profile of each run
    """
    times: dict[str, list[float]] = {}
    for run in runs:
        for node in run:
            if node.status.name == "EXECUTED":
                times.setdefault(node.node_name, []).append(MS_PER_S * node.real_time.total_seconds())
    facts = {node.node_name: node for node in runs[-1]}
    return tuple(
        LayerTime(
            name=name.removesuffix(WITHOUT_BIAS),
            kind=f"{facts[name].node_type} {facts[name].exec_type}",
            integer=facts[name].exec_type.lower().endswith(INTEGERS),
            median_ms=median(found),
        )
        for name, found in times.items()
    )


def _why_float(node: Any) -> str:
    """What reaches a product that is computed in floating point."""
    arriving = [_fact(node.input_value(place).get_node(), "outputPrecisions") for place in (0, 1)][
        : node.get_input_size()
    ]
    roles = [f"{role} is {precision}" for role, precision in zip(("input", "weight"), arriving, strict=False)]
    return f"{', '.join(roles)}: not quantized, or in a form that the runtime has no integer kernel for"


def _fact(node: Any, name: str) -> str:
    facts = node.get_rt_info()
    return str(facts[name].astype(str)) if name in facts else ""
