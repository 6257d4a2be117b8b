"""The decoder to kl_encoder, layer for layer and name for name that of diffusers' AutoencoderKL.

Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from safelight.config import Depth, Section, Size, UserError
from safelight.networks.kl_encoder import EPS, KLLevel, Middle, Up
from safelight.networks.residual_encoder import divisible, smallest
from safelight.types import DataSpec, Values


class Config(Section):
    name: Literal["kl_decoder"] = "kl_decoder"
    widths: tuple[Size, ...] = Field(
        default=(512, 512, 256, 128),
        min_length=1,
        description="channels from the smallest size on; each doubles",
    )
    blocks: Depth = Field(
        default=3, description="residual blocks at each size; diffusers has one more than its encoder"
    )
    groups: Size = Field(default=32, description="groups of the group norms")
    attention: bool = Field(default=True, description="self-attention at the smallest size")

    def build(self, spec: DataSpec, latent: tuple[int, ...] = (4, 0, 0)) -> nn.Module:
        """The network for `spec` and a latent (c, h, w).

        Raises UserError for a size or a width that does not divide, or a latent that is no picture.
        """
        divisible(self.widths, self.groups, "decoder")
        seed = smallest(spec, len(self.widths), "decoder")
        if len(latent) != 3 or (latent[1:] != seed and latent[1:] != (0, 0)):
            raise UserError(
                f"network.decoder.widths: {len(self.widths)} of them start at {seed[0]}x{seed[1]}, but the "
                f"latent is {'x'.join(map(str, latent))}; state as many widths as the encoder, a kl_encoder"
            )
        return KlDecoder(self, spec, latent[0])


class KlDecoder(nn.Module):
    """z (B, c, h, w) -> (B, C, H, W). It sees no condition."""

    def __init__(self, config: Config, spec: DataSpec, latent: int) -> None:
        super().__init__()
        widths = config.widths
        steps = [Up] * (len(widths) - 1) + [None]
        self.conv_in = nn.Conv2d(latent, widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0], config.groups, config.attention)
        self.up_blocks = nn.ModuleList(
            KLLevel(inputs, width, config.blocks, config.groups, step)
            for inputs, width, step in zip((widths[0], *widths), widths, steps, strict=False)
        )
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], spec.shape[0], 3, padding=1)

    def forward(self, z: Tensor, given: Values, present: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for level in self.up_blocks:
            x = level(x)
        images: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return images
