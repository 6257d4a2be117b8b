"""A residual encoder and decoder for VAEs, with a latent vector or a small latent picture.

The encoder: SiLU, group norms, conditions as scale and shift of every block.
The latent is a vector, or with spatial = true a small picture, as latent diffusion wants it.

Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output, but 0 in
the last layer of a branch.

The decoder: the encoder in reverse.
A latent vector enters twice, as the first, smallest picture and as scale and shift of every block, so that
it is not forgotten on the way to full size.

Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output, but 0 in
the last layer of a branch.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from safelight.config import Depth, Section, Size, UserError
from safelight.networks.conv_vae import VECTORS, Given
from safelight.types import DataSpec, Values


class ResidualEncoderConfig(Section):
    name: Literal["residual_encoder"] = "residual_encoder"
    latent: Size = 64
    """Size of the latent, or its channels if spatial; the decoder follows it."""
    spatial: bool = False
    """Latent is a small image rather than a vector."""
    widths: tuple[Size, ...] = Field((32, 64, 128), min_length=1)
    """Channels of each level, full size first; each level halves."""
    blocks: Depth = 1
    """Residual blocks at each size."""
    groups: Size = 1
    """Groups of the group norms; 1 is fastest on a CPU."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout within residual blocks."""
    conditional: bool = True
    """Condition on label, attributes and text; never on masks."""

    def latent_shape(self, spec: DataSpec) -> tuple[int, ...]:
        """Shape of z without the batch."""
        height, width = smallest(spec, len(self.widths), "encoder")
        return (self.latent, height, width) if self.spatial else (self.latent,)

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError for a size or a width that does not divide."""
        divisible(self.widths, self.groups, "encoder")
        return ResidualEncoder(self, spec)


class ResidualEncoder(nn.Module):
    """(B, C, H, W) and vector conditions -> mean, log-variance, (B, *latent) each."""

    def __init__(self, config: ResidualEncoderConfig, spec: DataSpec) -> None:
        super().__init__()
        widths = config.widths
        height, width = smallest(spec, len(widths), "encoder")
        self.given = Given(spec, config.conditional)
        self.ignored = () if config.conditional else VECTORS
        self.enter = nn.Conv2d(spec.shape[0], widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            nn.ModuleList(
                FilmBlock(width, self.given.size, config.groups, config.dropout) for _ in range(config.blocks)
            )
            for width in widths
        )
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.norm = nn.GroupNorm(config.groups, widths[-1])
        self.spatial = config.spatial
        self.head: nn.Module
        if config.spatial:
            self.head = nn.Conv2d(widths[-1], 2 * config.latent, 3, padding=1)
        else:
            self.head = nn.Linear(widths[-1] * height * width, 2 * config.latent)

    def forward(self, x: Tensor, given: Values, present: Tensor) -> tuple[Tensor, Tensor]:
        c = self.given(given, present)
        x = self.enter(x)
        for level, stage in enumerate(self.stages):
            if level:
                x = self.shrink[level - 1](x)
            for block in stage:  # type: ignore[attr-defined]
                x = block(x, c)
        x = F.silu(self.norm(x))
        mean, logvar = self.head(x if self.spatial else x.flatten(1)).chunk(2, dim=1)
        return mean, logvar


class FilmBlock(nn.Module):
    """x + conv(silu(scale * norm(conv(silu(norm x))) + shift)), scale and shift linear in a vector (B, size).

    The last convolution starts at zero; a vector of size 0 neither scales nor shifts.
    """

    recomputable = True

    def __init__(self, width: int, size: int, groups: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width)
        self.modulate = nn.Linear(size, 2 * width) if size else None
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        y = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.modulate is not None:
            scale, shift = self.modulate(c)[:, :, None, None].chunk(2, dim=1)
            y = y * (1 + scale) + shift
        result: Tensor = x + self.conv2(self.dropout(F.silu(y)))
        return result


def smallest(spec: DataSpec, levels: int, role: str) -> tuple[int, int]:
    """Height and width after all halvings. Raises UserError where they do not come out whole."""
    _, height, width = spec.shape
    factor = 2 ** (levels - 1)
    if height % factor or width % factor:
        side = math.gcd(height, width)
        raise UserError(
            f"network.{role}.widths: {height}x{width} images do not divide by {factor}; make widths of "
            f"encoder and decoder shorter ({(side & -side).bit_length()} at most) or change data.size"
        )
    return height // factor, width // factor


def divisible(widths: tuple[int, ...], groups: int, role: str) -> None:
    """Raises UserError where a width does not divide into groups."""
    for width in widths:
        if width % groups:
            raise UserError(f"network.{role}.groups: {groups} does not divide width {width}")


class ResidualDecoderConfig(Section):
    name: Literal["residual_decoder"] = "residual_decoder"
    widths: tuple[Size, ...] = Field((128, 64, 32), min_length=1)
    """Channels of each level, smallest size first; each level doubles."""
    blocks: Depth = 1
    """Residual blocks at each size."""
    groups: Size = 1
    """Groups of the group norms; 1 is fastest on a CPU."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout within residual blocks."""
    conditional: bool = True
    """Condition on label, attributes and text; never on masks."""

    def build(self, spec: DataSpec, latent: tuple[int, ...] = (64,)) -> nn.Module:
        """The network for `spec` and a latent (Z,) or (z, h, w).

        Raises UserError for a size or a width that does not divide, or a latent picture of another size.
        """
        divisible(self.widths, self.groups, "decoder")
        seed = smallest(spec, len(self.widths), "decoder")
        if len(latent) == 3 and latent[1:] != seed:
            raise UserError(
                f"network.decoder.widths: {len(self.widths)} of them start at {seed[0]}x{seed[1]}, but the "
                f"latent is {latent[1]}x{latent[2]}; state as many widths as the encoder"
            )
        return ResidualDecoder(self, spec, latent, seed)


class ResidualDecoder(nn.Module):
    """z (B, *latent) and vector conditions -> (B, C, H, W)."""

    def __init__(
        self, config: ResidualDecoderConfig, spec: DataSpec, latent: tuple[int, ...], seed: tuple[int, int]
    ) -> None:
        super().__init__()
        widths = config.widths
        self.given = Given(spec, config.conditional)
        self.ignored = () if config.conditional else VECTORS
        self.spatial = len(latent) == 3
        size = self.given.size + (0 if self.spatial else latent[0])
        self.seed = (widths[0], *seed)
        self.stem: nn.Module
        if self.spatial:
            self.stem = nn.Conv2d(latent[0], widths[0], 3, padding=1)
        else:
            self.stem = nn.Linear(size, math.prod(self.seed))
        self.stages = nn.ModuleList(
            nn.ModuleList(FilmBlock(width, size, config.groups, config.dropout) for _ in range(config.blocks))
            for width in widths
        )
        self.grow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for coarse, fine in pairwise(widths))
        self.norm = nn.GroupNorm(config.groups, widths[-1])
        self.leave = nn.Conv2d(widths[-1], spec.shape[0], 3, padding=1)

    def forward(self, z: Tensor, given: Values, present: Tensor) -> Tensor:
        c = self.given(given, present)
        if self.spatial:
            x = self.stem(z)
        else:
            c = torch.cat([z, c], 1)
            x = self.stem(c).unflatten(1, self.seed)
        for level, stage in enumerate(self.stages):
            if level:
                x = F.interpolate(self.grow[level - 1](x), scale_factor=2.0, mode="nearest")
            for block in stage:  # type: ignore[attr-defined]
                x = block(x, c)
        images: Tensor = self.leave(F.silu(self.norm(x)))
        return images
