"""A residual decoder for VAEs: residual_encoder in reverse, z as a vector or as a small picture.

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
from safelight.networks.conv_encoder import VECTORS, Given
from safelight.networks.residual_encoder import FilmBlock, divisible, smallest
from safelight.types import DataSpec, Values


class Config(Section):
    name: Literal["residual_decoder"] = "residual_decoder"
    widths: tuple[Size, ...] = Field(
        default=(128, 64, 32), min_length=1, description="channels from the smallest picture on; each doubles"
    )
    blocks: Depth = Field(default=1, description="residual blocks at each size")
    groups: Size = Field(default=1, description="groups of the group norms; 1 is fastest on a CPU")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="within residual blocks")
    conditional: bool = Field(default=True, description="see label, attributes and text; masks never")

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
        self, config: Config, spec: DataSpec, latent: tuple[int, ...], seed: tuple[int, int]
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
