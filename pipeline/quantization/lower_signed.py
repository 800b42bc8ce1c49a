"""Store unsigned activations as signed ones: ONNX Runtime on ARM64 multiplies int8 with int8.

    q_s8 = q_u8 − 128,  zero point −128 instead of 0

A ReLU before such a quantizer ends where the codes end, at −128, so it folds. Additions and concats want one type on
all sides, which they have when everything is int8.
"""

import numpy as np
import onnx

from pipeline.quantization.lower_codes import activations_stored


def activations_signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which every uint8 activation quantizer stores int8."""
    return activations_stored(model, kind=np.int8)
