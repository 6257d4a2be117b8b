"""The decoder of a small convolutional VAE: conv_encoder in reverse, from z and the conditions.

Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output. First images hardly
depend on z then; reconstructions soon show the decoder what it means.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from safelight.config import Section, Size, UserError
from safelight.networks.conv_encoder import Given, sizes
from safelight.types import DataSpec, Values


class Config(Section):
    name: Literal["conv_decoder"] = "conv_decoder"
    widths: tuple[Size, ...] = Field(
        default=(96, 64, 48, 32), min_length=1, description="channels from the smallest picture on"
    )

    def build(self, spec: DataSpec, latent: tuple[int, ...] = (48,)) -> nn.Module:
        """The network for `spec` and a latent (Z,). Raises UserError for images that are too small."""
        if len(latent) > 1:
            raise UserError("network.decoder.name: conv_decoder takes a latent vector; use residual_decoder")
        return ConvDecoder(self, spec, math.prod(latent))


class ConvDecoder(nn.Module):
    """z (B, Z) and vector conditions -> (B, C, H, W)."""

    def __init__(self, config: Config, spec: DataSpec, latent: int) -> None:
        super().__init__()
        channels = [*config.widths, spec.shape[0]]
        ladder = sizes(spec, len(config.widths) - 1, "decoder")[::-1]
        height, width = ladder[0]
        self.given = Given(spec)
        self.seed = (channels[0], height - 3, width - 3)
        self.stem = nn.Linear(latent + self.given.size, math.prod(self.seed))
        layers: list[nn.Module] = [nn.SiLU(), nn.ConvTranspose2d(channels[0], channels[1], 4)]
        for level in range(1, len(config.widths)):
            odd = (ladder[level][0] % 2, ladder[level][1] % 2)  # the row that halving has lost
            grow = nn.ConvTranspose2d(
                channels[level], channels[level + 1], 4, stride=2, padding=1, output_padding=odd
            )
            layers += [nn.SiLU(), grow]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, given: Values, present: Tensor) -> Tensor:
        x: Tensor = self.layers(self.stem(self.given.append(z, given, present)).unflatten(1, self.seed))
        return x
