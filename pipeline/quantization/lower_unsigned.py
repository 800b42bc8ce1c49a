"""Store signed activations as unsigned ones, which is the form ONNX Runtime's x86 kernels are fast at.

q_u8 = q_s8 + 128,  zero point 128 instead of 0
"""

import numpy as np
import onnx

from pipeline.quantization.lower_codes import activations_stored


def activations_unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which every int8 activation quantizer stores uint8 around 128."""
    return activations_stored(model, kind=np.uint8)
