"""From the canonical integer graph to the form that a target's kernels are fast at; each step changes no value."""

import onnx

from pipeline.quantization.lower_pad import padded_in_integers
from pipeline.quantization.lower_unsigned import activations_unsigned
from targets.target import Scheme


def lowered_for(model: onnx.ModelProto, scheme: Scheme) -> onnx.ModelProto:
    """A copy of `model` for a target with this integer scheme; a float model comes back as it is."""
    if scheme.signed_zero_point == 128:
        model = activations_unsigned(model)
    return padded_in_integers(model)
