"""What TensorRT-RTX writes about an engine that it has built: one line per layer under `Layers:`, read here.

    Name: /conv1/Conv_myl0_1, LayerType: correlation, Inputs: [ { Name: …, Dimensions: [1,4,32,32], …, Datatype: Int8,
    … }], Constants: [ … ], Outputs: [ … ], TacticName: …, Metadata: [ONNX Layer: /conv1/Conv][ONNX Layer: …]

A layer says which nodes of the ONNX file it computes. A product of the file is often named by two layers: the one that
multiplies (LayerType `correlation` for a convolution, `gemm`), and a generated one (`kgen`) that scales what comes out.
It is in integers if what the multiplying layer reads, and its weight, are Int8. Generated layers carry in their names
what they do, in order: `MoveConcCorrMul` convolves what it reads and scales it, `CastMulCorr` would make floats of it
first.

Source: the verbose log of TensorRT-RTX 1.7.1 at profiling verbosity DETAILED. No format of it is promised.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from targets.runner import OperatorRow, Operators

INTEGER = "Int8"
MULTIPLYING = ("correlation", "gemm")  # convolutions and matrix products
GENERATED = "kgen"  # a kernel made for this network, of operators that the compiler joined
_PRODUCTS, _CONVERSIONS = {"Corr", "Gemm", "Fc"}, {"Cast", "Mul"}  # of those, by their short names

_LAYER = re.compile(
    r"Name: (?P<name>.+?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], "
    r"(?:Constants: \[(?P<constants>.*?)\], )?Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<rest>.*)"
)
_TENSOR = re.compile(r"\{ Name: (.+?), Dimensions: \[([-\d,]*)\],.*?Datatype: (\w+),")


@dataclass(frozen=True)
class EngineTensor:
    """What a layer of an engine reads or writes."""

    name: str
    dimensions: tuple[int, ...]
    datatype: str  # the compiler's word: Int8, Float, Half, Bool, …


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine.

    kind: the compiler's word · onnx_nodes: names of the nodes of the file that it computes, or a part of which
    """

    name: str
    kind: str
    inputs: tuple[EngineTensor, ...]
    constants: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    onnx_nodes: tuple[str, ...]

    @property
    def datatypes(self) -> tuple[str, ...]:
        """Of the two factors, if it is a product: what it reads first, and the stored weight or what it reads second.

        Of a product of two tensors the constants are two factors by which sums are scaled, of one number each.
        """
        weight = [each for each in self.constants[:1] if len(each.dimensions) > 1]
        return tuple(each.datatype for each in (self.inputs[:1] + tuple(weight) if weight else self.inputs[:2]))

    @property
    def multiplies_integers(self) -> bool:
        """Whether it is a product, and of integers on both sides."""
        product = self.kind in MULTIPLYING or (self.kind == GENERATED and _multiplies_as_read(self.name))
        return product and set(self.datatypes) == {INTEGER}


def layers_from_log(log: str) -> tuple[EngineLayer, ...]:
    """The layers in the order in which they run; none where the log holds no list of them.

    Raises:
        ValueError: the list has a line that is none of a layer's: the log is that of another version.
    """
    _, found, rest = log.rpartition("Layers:\n")
    if not found:
        return ()
    layers = []
    for line in rest.splitlines():
        if not line.strip():
            break
        layers.append(_layer(line))
    return tuple(layers)


def products_in_engine(products: Operators, layers: Sequence[EngineLayer]) -> Operators:
    """Of each convolution and matrix product of a file, whether the engine multiplies integers there, and why not.

    products: those of the file by name; their own `integer` is not read
    """
    rows = tuple(_row(each, layers) for each in products.rows)
    integer = sum(row.integer for row in rows)
    return Operators(integer=integer, floating=len(rows) - integer, rows=rows)


def _row(product: OperatorRow, layers: Sequence[EngineLayer]) -> OperatorRow:
    named = [each for each in layers if product.name in each.onnx_nodes]
    if not named:
        return OperatorRow(product.name, "none", False, "no layer of the engine names it")
    # The layer that multiplies; else one of another kind (a runtime fusion); else a generated one, which may hold it.
    named.sort(key=lambda each: (each.kind not in MULTIPLYING, each.kind == GENERATED))
    layer = named[0]
    if layer.multiplies_integers:
        return OperatorRow(product.name, layer.kind, True, "")
    read = " with ".join(layer.datatypes)
    return OperatorRow(product.name, layer.kind, False, f"{layer.name} ({layer.kind}) reads {read}")


def _multiplies_as_read(name: str) -> bool:
    """Whether the first that a generated layer does to its numbers is a product, by its name."""
    does = re.findall(r"[A-Z][a-z]*", name.removeprefix("__myl_").partition("_")[0])
    first = next((each for each in does if each in _PRODUCTS | _CONVERSIONS), None)
    return name.startswith("__myl_") and first in _PRODUCTS


def _layer(line: str) -> EngineLayer:
    read = _LAYER.match(line)
    if read is None:
        raise ValueError(f"not a line of TensorRT-RTX's list of layers: {line[:80]}")
    return EngineLayer(
        name=read["name"], kind=read["kind"], inputs=_tensors(read["inputs"]),
        constants=_tensors(read["constants"] or ""), outputs=_tensors(read["outputs"]),
        # Between two names stands a control character, or nothing; a name may hold brackets of its own.
        onnx_nodes=tuple(each.rpartition("]")[0] for each in read["rest"].split("[ONNX Layer: ")[1:]),
    )  # fmt: skip


def _tensors(listed: str) -> tuple[EngineTensor, ...]:
    return tuple(
        EngineTensor(name, tuple(int(each) for each in dimensions.split(",") if each), datatype)
        for name, dimensions, datatype in _TENSOR.findall(listed)
    )
