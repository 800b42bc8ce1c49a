"""DCT coefficients of a JPEG → pixels: inverse transform, enlarged chroma, colours.

ITU-T T.81 (1992), annex A; the JFIF 1.02 conversion of colours. Stands alone (numpy), because a bundle carries a copy.
Where the standard leaves freedom, libjpeg's integer arithmetic is followed, so that the pixels are those that Pillow
gave the training run:

- inverse DCT: Loeffler, Ligtenberg & Moschytz 1989, "Practical fast 1-D DCT algorithms with 11 multiplications",
  constants rounded to 13 bits. Between two roundings it is linear, so here it is two products with one matrix of
  integers, in float64, where integers of this size (below 2⁵³) are exact whatever the order of the additions;
- halved chroma is enlarged with a triangle (3/4 of the nearer sample, 1/4 of the farther), other ratios by repetition;
- colours: 16-bit fixed point.

Letters: H height, W width, B blocks in a row of blocks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# The place in an 8 × 8 block, row by row, of the k-th coefficient: along the diagonals, alternately down and up.
ZIGZAG = np.array(sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8)))


def samples_from_coefficients(
    stored: npt.NDArray[np.int16], *, steps: npt.NDArray[np.float64]
) -> npt.NDArray[np.int16]:
    """(rows of blocks, B, 64) in zigzag order, times the quantizer's 64 steps → (8 · rows, 8 · B) of 0..255."""
    transform = inverse_dct_matrix()  # (frequency, sample)
    rows, blocks = stored.shape[:2]
    samples = np.empty((8 * rows, 8 * blocks), np.int16)
    for row, zigzag in enumerate(stored):
        natural = np.empty((blocks, 64))
        natural[:, ZIGZAG] = zigzag * steps
        upright = natural.reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, 8)  # (B · across, down)
        passed = np.floor((upright @ transform + (1 << 10)) / (1 << 11))  # 2 of the 13 bits stay for the next pass
        across = passed.reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, 8)  # (B · line, across)
        levels = np.floor((across @ transform + (1 << 17)) / (1 << 18)) + 128  # 13 + those 2 + 3 of the 8 × 8 scale
        lines = np.clip(levels, 0, 255).reshape(-1, 8, 8).transpose(1, 0, 2)  # (line, B, column)
        samples[8 * row : 8 * row + 8] = lines.reshape(8, -1)
    return samples


def inverse_dct_matrix() -> npt.NDArray[np.float64]:
    """(frequency, sample): one pass of the transform in units of 2⁻¹³, as the factorisation's constants round it."""
    c = np.eye(8)

    def f(constant: float) -> int:
        return int(constant * 8192 + 0.5)

    tilt = (c[2] + c[6]) * f(0.541196100)
    two, three = tilt - c[6] * f(1.847759065), tilt + c[2] * f(0.765366865)
    zero, one = (c[0] + c[4]) * 8192, (c[0] - c[4]) * 8192
    even = [zero + three, one + two, one - two, zero - three]
    both = (c[7] + c[3] + c[5] + c[1]) * f(1.175875602)
    inner, outer = both - (c[7] + c[3]) * f(1.961570560), both - (c[5] + c[1]) * f(0.390180644)
    edge, middle = (c[7] + c[1]) * f(0.899976223), (c[5] + c[3]) * f(2.562915447)
    odd = [
        c[1] * f(1.501321110) - edge + outer,
        c[3] * f(3.072711026) - middle + inner,
        c[5] * f(2.053119869) - middle + outer,
        c[7] * f(0.298631336) - edge + inner,
    ]
    return np.stack([even[i] + odd[i] for i in range(4)] + [even[i] - odd[i] for i in (3, 2, 1, 0)], axis=1)


def enlarged(samples: npt.NDArray[np.int16], *, across: int, down: int) -> npt.NDArray[np.int16]:
    """(h, w) → (h · down, w · across)."""
    smooth_across = across == 2 and down <= 2 and samples.shape[1] > 2  # libjpeg repeats narrower planes
    smooth_down = down == 2 and (smooth_across or across == 1)
    tall = spread(samples) if smooth_down else np.repeat(samples, down, axis=0)
    full = spread(tall.T).T if smooth_across else np.repeat(tall, across, axis=1)
    if smooth_across and smooth_down:
        full = full + halves(full.shape[1], even=8, odd=7) >> 4
    elif smooth_across:
        full = full + halves(full.shape[1], even=1, odd=2) >> 2
    elif smooth_down:
        full = full + halves(full.shape[0], even=1, odd=2)[:, np.newaxis] >> 2
    return full


def spread(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Twice as many along axis 0, in units of 1/4: three of the nearer and one of the farther (at the ends, itself)."""
    near = np.repeat(samples, 2, axis=0)
    total = 4 * near
    total[2::2] += samples[:-1] - samples[1:]
    total[1:-1:2] += samples[1:] - samples[:-1]
    return total


def halves(count: int, *, even: int, odd: int) -> npt.NDArray[np.int16]:
    """What libjpeg adds before it drops bits: a half, alternately rounded up and down, so that nothing drifts."""
    return np.where(np.arange(count) % 2, odd, even).astype(np.int16)


def rgb_from_ycc(planes: list[npt.NDArray[np.int16]]) -> npt.NDArray[np.uint8]:
    """Luma, blue and red difference → (H, W, 3). The factors are JFIF's times 2¹⁶: 91881 is 1.402 and so on."""
    luma, blue, red = (plane.astype(np.int32) for plane in planes)
    blue, red = blue - 128, red - 128
    half = 1 << 15
    rgb = np.stack(
        [
            luma + (91881 * red + half >> 16),
            luma + (-22554 * blue - 46802 * red + half >> 16),
            luma + (116130 * blue + half >> 16),
        ],
        axis=2,
    )
    pixels: npt.NDArray[np.uint8] = np.clip(rgb, 0, 255).astype(np.uint8)
    return pixels
