"""Networks with attention: for those, quantizers advise otherwise than for convolutions.

ONNX Runtime and Neural Compressor advise ranges that are read anew from every input ("dynamic"), Neural Compressor also
SmoothQuant (Xiao et al. 2022, arXiv:2211.10438), and NNCF to name the kind of the network. Which of these is best in
accuracy is seldom the fastest, so the best of each kind is kept and timed.
"""

from collections.abc import Mapping
from pathlib import Path

import onnx

from int8_peers.task import Found, Quantized, Task, Tried, Way, chosen

PRODUCTS = ("MatMul", "Gemm")  # the operators that are worth integers


def is_transformer(model: Path) -> bool:
    """Whether an ONNX file has attention: a softmax, and behind it a matrix product of two computed tensors."""
    graph = onnx.load(model).graph
    constants = {constant.name for constant in graph.initializer}
    shares = {node.output[0] for node in graph.node if node.op_type == "Softmax"}
    return any(
        node.op_type == "MatMul" and node.input[0] in shares and node.input[1] not in constants for node in graph.node
    )


def chosen_each(task: Task, kinds: Mapping[str, Mapping[str, Way]], *, suffix: str, runtime: str) -> Found:
    """The best of each kind, a file each.

    kinds: stem of the file → its settings, as for `chosen`

    Raises:
        RuntimeError: no kind worked; the message is that of the first.
    """
    forms: list[Quantized] = []
    tried: list[Tried] = []
    for stem, ways in kinds.items():
        try:
            found = chosen(task, ways, stem=stem, suffix=suffix, runtime=runtime)
        except RuntimeError as error:
            tried.append(Tried(stem, None, None, 0.0, str(error)))
            continue
        forms += found.forms
        tried += found.tried
    if not forms:
        raise RuntimeError(tried[0].failed)
    return Found(tuple(forms), tuple(tried))
