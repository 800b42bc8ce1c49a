"""From the canonical integer graph to the form that a target's kernels are fast at; each step changes no value.

x86             uint8 activations, signed ones around their zero point, which is 128 where the student has none of its
                own; of a symmetric student what is never negative from 0 on
ARM64           int8 activations: the same codes less 128
TensorRT        int8 around 0, as it is; residual sums added before rounding (the one step that rounds less often)
… in float16    and everything that is not integer in half precision (scales and biases are rounded to it)
"""

import onnx

from pipeline.quantization.lower_float16 import floats_halved
from pipeline.quantization.lower_linear import linear_in_integers
from pipeline.quantization.lower_nonnegative import nonnegative_from_zero
from pipeline.quantization.lower_pad import padded_in_integers
from pipeline.quantization.lower_recurrent import few_steps_in_floats
from pipeline.quantization.lower_signed import activations_signed
from pipeline.quantization.lower_tensorrt import additions_fused
from pipeline.quantization.lower_turned import weights_as_multiplied
from pipeline.quantization.lower_unsigned import activations_unsigned
from targets.target import Scheme


def lowered_for(model: onnx.ModelProto, scheme: Scheme) -> onnx.ModelProto:
    """A copy of `model` for a target with this integer scheme; a float model comes back in the scheme's floats."""
    if scheme.symmetric:
        lowered = onnx.ModelProto()
        lowered.CopyFrom(additions_fused(model) if scheme.fused_additions else model)
        return floats_halved(lowered) if scheme.float_bits == 16 else lowered
    if scheme.signed_zero_point == 0:
        return _linear(padded_in_integers(activations_signed(model)))
    if not scheme.unsigned_activations:
        model = nonnegative_from_zero(model)
    return _linear(padded_in_integers(activations_unsigned(model)))


def _linear(model: onnx.ModelProto) -> onnx.ModelProto:
    return few_steps_in_floats(weights_as_multiplied(linear_in_integers(model)))
