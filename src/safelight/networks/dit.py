"""A diffusion transformer (Peebles and Xie 2023): patches as tokens, conditions by adaLN-zero.

    x + gate * attention(scale * norm(x) + shift),  then likewise with an MLP

shift, scale and gate come from the embedding of noise level and conditions, zero at first, so that the
network starts as the identity of its tokens and outputs zero. Places are rotations of queries and keys, by
row and by column (Su 2021), which takes images of any size; queries and keys are normalised (Dehghani 2023).

Initial weights: Xavier's uniform (Glorot 2010) in blocks and patches, biases zero, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from safelight.config import Depth, Section, Size, UserError
from safelight.constants import constant
from safelight.networks.unet import Embedding, Kind, attend, zeroed
from safelight.types import DataSpec

BASE = 10_000.0  # the slowest rotation turns once in 2 pi times so many patches
EPS = 1e-6


class DitConfig(Section):
    name: Literal["dit"] = "dit"
    patch: Size = 2
    """Side of the patches that become tokens: 2 turns a latent of 32x32 into 256 tokens."""
    width: Size = 768
    """Size of a token; 384, 768, 1024, 1152 in the paper's S, B, L, XL."""
    depth: Depth = 12
    """Blocks; 12, 12, 24, 28 in the paper's S, B, L, XL."""
    heads: Size = 12
    """Attention heads; 6, 12, 16, 16 in the paper's S, B, L, XL."""
    expansion: float = Field(4.0, gt=0, le=64)
    """Size of the MLP's hidden layer, in multiples of width."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout within the MLPs."""
    time: bool = True
    """Condition on the noise level."""
    interval: bool = False
    """Condition on the length of a step as well, as meanflow needs."""
    ignore: tuple[Kind, ...] = ()
    """Conditions of the data to ignore."""

    @property
    def multiple(self) -> int:
        """Sides of images are multiples of so many pixels; it takes images of any such size."""
        return int(self.patch)

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError for a size or a width that does not divide."""
        _, height, width = spec.shape
        if height % self.patch or width % self.patch:
            raise UserError(
                f"network.patch: {height}x{width} images do not divide by {self.patch}; make it smaller, or "
                "change the image size, data.size"
            )
        if self.width % (4 * self.heads):
            raise UserError(
                f"network.heads: width {self.width} in {self.heads} heads is {self.width / self.heads:g} "
                "each; it has to be a multiple of 4"
            )
        return Dit(self, spec)


class Dit(nn.Module):
    """(B, C, H, W) -> (B, C, H, W), zero before training."""

    def __init__(self, config: DitConfig, spec: DataSpec) -> None:
        super().__init__()
        self.patch, self.head, self.interval = config.patch, config.width // config.heads, config.interval
        masks = spec.conditions["mask"].size if "mask" in spec.conditions else 0
        self.ignored = config.ignore
        self.masked = masks > 0 and "mask" not in config.ignore
        inputs, pixels = spec.shape[0] + (masks if self.masked else 0), config.patch**2
        self.embedding = Embedding(config, spec, config.width)
        self.enter = nn.Linear(inputs * pixels, config.width)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.depth))
        self.modulate = nn.Linear(config.width, 2 * config.width)
        self.leave = nn.Linear(config.width, spec.shape[0] * pixels)
        for layer in (self.enter, *(part for part in self.blocks.modules() if isinstance(part, nn.Linear))):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for part in (self, *self.blocks):
            zeroed(part.modulate)
        zeroed(self.leave)

    def forward(self, x: Tensor, t: Tensor, given: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """x: (B, C, H, W). t: (B,) in [0, 1]. given: conditions by kind. present: (B,) bool.

        With `interval` t is (B, 2): the noise level, and the length of the step from it towards the image.
        A row that is not present gets a learned vector in place of its conditions, and an empty mask.
        """
        e = self.embedding(t, given, present)
        if self.masked:
            x = torch.cat([x, given["mask"] * present[:, None, None, None]], 1)
        x = F.pixel_unshuffle(x, self.patch)
        height, width = x.shape[2:]
        turn = constant(rotation, height, width, self.head, device=x.device)
        x = self.enter(x.flatten(2).transpose(1, 2))
        for block in self.blocks:
            x = block(x, e, turn)
        shift, scale = self.modulate(e)[:, None].chunk(2, dim=2)
        x = self.leave(torch.addcmul(shift, normalised(x), 1 + scale))
        return F.pixel_shuffle(x.transpose(1, 2).reshape(x.shape[0], -1, height, width), self.patch)


class TransformerBlock(nn.Module):
    """Attention and an MLP, each scaled, shifted and gated by the embedding (B, width)."""

    recomputable = True

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        width, hidden = config.width, round(config.width * config.expansion)
        self.heads, head = config.heads, config.width // config.heads
        self.modulate = nn.Linear(width, 6 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm_q, self.norm_k = nn.RMSNorm(head, EPS), nn.RMSNorm(head, EPS)
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, e: Tensor, turn: Tensor) -> Tensor:
        """x: (B, tokens, width). turn: `rotation` of the tokens' places."""
        shift, scale, gate, shift2, scale2, gate2 = self.modulate(e)[:, None].chunk(6, dim=2)
        y = self.attention(torch.addcmul(shift, normalised(x), 1 + scale), turn)
        x = torch.addcmul(x, gate, y)
        y = F.gelu(self.first(torch.addcmul(shift2, normalised(x), 1 + scale2)), approximate="tanh")
        return torch.addcmul(x, gate2, self.second(self.dropout(y)))

    def attention(self, x: Tensor, turn: Tensor) -> Tensor:
        """Self-attention of (B, tokens, width)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = (
            turned(rooted(part, norm.weight), turn) for part, norm in ((q, self.norm_q), (k, self.norm_k))
        )
        attended: Tensor = self.out(attend(q, k, v.to(q.dtype)).transpose(1, 2).flatten(2))
        return attended


def normalised(x: Tensor) -> Tensor:
    """Layer norm without weights of its own: those come from the embedding."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS)


def rooted(x: Tensor, weight: Tensor) -> Tensor:
    """RMS norm in the type of x, which autocast may have made smaller than the weight's."""
    return F.rms_norm(x, x.shape[-1:], weight.to(x.dtype), EPS)


def rotation(height: int, width: int, head: int) -> Tensor:
    """Cosine and sine of the angle of every pair of a head's numbers, (2, tokens, head / 2).

    The first half of the pairs turns with the row, the second with the column, from one radian a patch down.
    """
    rates = BASE ** -(torch.arange(head // 4) / (head // 4))
    rows = (torch.arange(height)[:, None] * rates)[:, None].expand(-1, width, -1)
    columns = (torch.arange(width)[:, None] * rates)[None].expand(height, -1, -1)
    angles = torch.cat([rows, columns], 2).flatten(0, 1)
    return torch.stack([angles.cos(), angles.sin()])


def turned(x: Tensor, turn: Tensor) -> Tensor:
    """Pairs (x_i, x_{i + head / 2}) of (B, heads, tokens, head), each turned by its angle."""
    a, b = x.chunk(2, dim=3)
    cos, sin = turn.to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], 3)
