"""A transformer encoder that classifies short texts.

Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762, sections 3.1 to 3.3: self-attention and a
feed-forward part, each added to what it read. Devlin et al. 2019, arXiv:1810.04805: learned positions, GELU. Where the
layer norms stand is a choice (Xiong et al. 2020, arXiv:2002.04745): behind each addition, as in the first two papers,
or before each part ("pre"), which trains without a long warm-up. The answer is a linear layer on the mean over the
words, padding left out.

    attention(Q, K, V) = softmax( Q Kᵀ / √d ) V,   d = D / H

Attention is written out in matrix products, so that torch.fx sees each of them. The network takes whole numbers as
float32, which is what a data set holds, and makes them indices itself.

Letters: N inputs, T tokens each, D width, H heads, d width of a head, V words, K classes.
"""

from typing import Literal

import torch
from torch import Tensor, nn

PADDING = 0  # the token that fills a text up to T
FAR_BELOW = -1e4  # as a score, e^−10000 = 0; −∞ would give NaN where a text is all padding


class TextEncoder(nn.Module):
    """Token ids (N, T) as float32, answers (N, K).

    depth: blocks · wide: width of the feed-forward part as a multiple of D · norm: before each part or behind it
    """

    def __init__(
        self,
        *,
        words: int,
        classes: int,
        length: int = 32,
        depth: int = 4,
        width: int = 256,
        heads: int = 4,
        wide: int = 4,
        norm: Literal["pre", "post"] = "pre",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be dealt out to {heads} heads")
        self.token = nn.Embedding(words, width, padding_idx=PADDING)
        self.position = nn.Parameter(torch.empty(1, length, width))
        self.first_norm = nn.Identity() if norm == "pre" else nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(
            *(_Block(length, width, heads=heads, wide=wide, norm=norm, dropout=dropout) for _ in range(depth))
        )
        self.last_norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.position, std=0.02)  # Devlin et al. 2019, as in their code
        nn.init.normal_(self.token.weight, std=0.02)
        with torch.no_grad():
            self.token.weight[PADDING].zero_()

    def forward(self, ids: Tensor) -> Tensor:
        padding = (ids == PADDING)[:, None, None, :]  # (N, 1, 1, T), against scores (N, H, T, T)
        x = self.token(ids.long()) + self.position  # (N, T, D)
        x = self.dropout(self.first_norm(x))
        for block in self.blocks:
            x = block(x, padding)
        x = self.last_norm(x)
        real = (ids != PADDING).to(x.dtype)[:, :, None]  # (N, T, 1)
        mean = (x * real).sum(1) / real.sum(1).clamp(min=1.0)  # (N, D)
        answer: Tensor = self.head(mean)  # (N, K)
        return answer


class _Block(nn.Module):
    """Attention and feed-forward part, each added to its input."""

    def __init__(
        self, length: int, width: int, *, heads: int, wide: int, norm: Literal["pre", "post"], dropout: float
    ) -> None:
        super().__init__()
        self.before = norm == "pre"
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _Attention(length, width, heads=heads)
        self.widen, self.gelu, self.narrow = nn.Linear(width, wide * width), nn.GELU(), nn.Linear(wide * width, width)
        self.dropout1, self.dropout2 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        if self.before:
            x = x + self.dropout1(self.attention(self.norm1(x), padding))
            x = x + self.dropout2(self._forward_part(self.norm2(x)))
        else:
            x = self.norm1(x + self.dropout1(self.attention(x, padding)))
            x = self.norm2(x + self.dropout2(self._forward_part(x)))
        return x

    def _forward_part(self, x: Tensor) -> Tensor:
        answer: Tensor = self.narrow(self.gelu(self.widen(x)))
        return answer


class _Attention(nn.Module):
    """Each word's mean over all words' values, weighted by how well its query fits their keys."""

    def __init__(self, length: int, width: int, *, heads: int) -> None:
        super().__init__()
        self.split = (-1, length, heads, width // heads)
        self.joined = (-1, length, width)
        self.scale = (width // heads) ** -0.5
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.softmax = nn.Softmax(dim=-1)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        query = self.query(x).view(self.split).transpose(1, 2)  # (N, H, T, d)
        key = self.key(x).view(self.split).permute(0, 2, 3, 1)  # (N, H, d, T)
        value = self.value(x).view(self.split).transpose(1, 2)  # (N, H, T, d)
        scores = torch.matmul(query, key) * self.scale  # (N, H, T, T)
        shares = self.softmax(scores.masked_fill(padding, FAR_BELOW))
        mixed = torch.matmul(shares, value).transpose(1, 2).reshape(self.joined)  # (N, T, D)
        answer: Tensor = self.output(mixed)
        return answer
