"""The integer schemes of devices whose engine is not built on x86; x86 reads its own from the processor's features.

    ARM64              every activation int8: never negative ones from −128 on, others around a zero point of their own
    TENSORRT           every activation int8 around 0, biases in float32, residual sums added before rounding
    TENSORRT_FLOAT16   the same, and float16 around the integers; strongly typed

Sources: ONNX Runtime's MLAS, whose integer dot product on ARM64 adds in 32 bits (SDOT, Arm Architecture Reference
Manual); NVIDIA, TensorRT documentation, "Working with quantized types": int8 is symmetric, zero point 0.
"""

from targets.target import Scheme

ARM64 = Scheme(
    weight_bits=8, unsigned_activations=True, signed_zero_point=0, affine_activations=True,
    why="ARM64 multiplies int8 with int8 and adds in 32 bits: full 8-bit weights are exact",
)  # fmt: skip
TENSORRT = Scheme(
    weight_bits=8, unsigned_activations=False, signed_zero_point=0, fused_additions=True,
    why="TensorRT takes int8 around 0 only, and adds a residual sum before it rounds",
)  # fmt: skip
TENSORRT_FLOAT16 = Scheme(
    weight_bits=8, unsigned_activations=False, signed_zero_point=0, fused_additions=True, float_bits=16,
    why="TensorRT takes int8 around 0 only, adds a residual sum before it rounds, and is faster in half precision",
)  # fmt: skip
