"""Types that no target of ours computes with, and quantizers that lack their other half."""

from collections.abc import Iterator

from onnx import NodeProto

from pipeline.quantization.quantized_graph import CODE_MOVES, QuantizedGraph, attribute, name_of

STORED = ("int8", "uint8", "int32")  # weights, and biases where a runtime takes them as integers
ACTIVATIONS = ("int8", "uint8")


def type_refusals(node: NodeProto, graph: QuantizedGraph) -> Iterator[str]:
    """Of one QuantizeLinear or DequantizeLinear: 4 bits, 8-bit floats, 16 bits, blocks, a type chosen by attribute."""
    zero = graph.pair(node).zero.dtype
    stored = graph.constants.get(node.input[0])
    weight = stored is not None and node.op_type == "DequantizeLinear"
    kind = stored.dtype.name if weight and stored is not None else zero.name
    if kind not in (STORED if weight else ACTIVATIONS):
        yield f"{name_of(node)}: its codes are {kind}; int8 is what every kernel here computes with, so store that."
    elif weight and kind != zero.name:
        yield f"{name_of(node)}: its codes are {kind} and its zero point is {zero.name}; give both the same type."
    if attribute(node, "block_size", 0):
        yield f"{name_of(node)}: it has a scale per block of values; give it one per tensor or per output channel."
    if attribute(node, "output_dtype", 0):
        yield f"{name_of(node)}: it takes the type of its codes from an attribute; take it from a zero point instead."


def halves(node: NodeProto, graph: QuantizedGraph, *, nothing_between: str | None) -> Iterator[str]:
    """Of one QuantizeLinear or DequantizeLinear: codes that nothing dequantizes, or that no quantizer made.

    nothing_between: the runtime that wants a DequantizeLinear right behind each QuantizeLinear; None if moves may stand
    there
    """
    if node.op_type == "DequantizeLinear":
        if node.input[0] not in graph.constants and graph.quantizer(node.input[0]) is None:
            yield f"{name_of(node)}: no QuantizeLinear makes the codes {node.input[0]}; add one, or take in floats."
        return
    waiting, seen = [node.output[0]], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        readers = graph.readers.get(name, ())
        if name in graph.outputs or not readers:
            yield f"{name_of(node)}: no DequantizeLinear reads its codes; add one, so that {name} leaves as floats."
            return
        for reader in readers:
            if reader.op_type == "DequantizeLinear":
                continue
            if reader.op_type not in CODE_MOVES:
                yield f"{name_of(node)}: {name_of(reader)} ({reader.op_type}) reads its codes; dequantize them first."
            elif nothing_between is not None:
                yield (
                    f"{name_of(node)}: {name_of(reader)} ({reader.op_type}) stands before its DequantizeLinear, which "
                    f"{nothing_between} wants right behind it; move it behind that."
                )
            else:
                waiting += [each for each in reader.output if each not in seen]
