"""The encoder and decoder of a small convolutional VAE.

The encoder: 4x4 convolutions, conditions appended to the features.
With the defaults at 120x120: 32, 48 and 64 channels at stride 2, 96 at stride 1 without padding, 12x12.
The heads are linear: a tanh would cap each mean and log-variance at 1, and the KL near 0.86 nats a latent.

Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output; the vector of no
condition -1.

The decoder: the encoder in reverse, from z and the conditions.
Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output. First images hardly
depend on z then; reconstructions soon show the decoder what it means.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from safelight.config import Section, Size, UserError
from safelight.types import DataSpec, Values

VECTORS = ("label", "attributes", "text")  # conditions that are vectors


class ConvEncoderConfig(Section):
    name: Literal["conv_encoder"] = "conv_encoder"
    latent: Size = 48
    """Size of the latent; the decoder follows it."""
    widths: tuple[Size, ...] = Field((32, 48, 64, 96), min_length=1)
    """Channels of each convolution; all but the last halve the image."""
    dropout: float = Field(0.45, ge=0, lt=1)
    """Dropout before the heads."""

    def latent_shape(self, spec: DataSpec) -> tuple[int, ...]:
        """Shape of z without the batch."""
        return (self.latent,)

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError for images that are too small."""
        return ConvEncoder(self, spec)


class ConvEncoder(nn.Module):
    """(B, C, H, W) and vector conditions -> mean, log-variance (B, latent) each."""

    def __init__(self, config: ConvEncoderConfig, spec: DataSpec) -> None:
        super().__init__()
        *halving, last = config.widths
        inputs = spec.shape[0]
        layers: list[nn.Module] = []
        for outputs in halving:
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.SiLU()]
            inputs = outputs
        layers += [nn.Conv2d(inputs, last, 4), nn.SiLU(), nn.Flatten(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers)
        height, width = sizes(spec, len(halving), "encoder")[-1]
        self.given = Given(spec)
        features = last * (height - 3) * (width - 3) + self.given.size
        self.mean = nn.Linear(features, config.latent)
        self.logvar = nn.Linear(features, config.latent)

    def forward(self, x: Tensor, given: Values, present: Tensor) -> tuple[Tensor, Tensor]:
        h = self.given.append(self.layers(x), given, present)
        return self.mean(h), self.logvar(h)


class Given(nn.Module):
    """The vector conditions side by side; a learned vector stands for none.

    spec: of the data. seen: False makes it empty.
    """

    def __init__(self, spec: DataSpec, seen: bool = True) -> None:
        super().__init__()
        self.kinds = [kind for kind in VECTORS if kind in spec.conditions and seen]
        self.classes = spec.classes
        self.size = sum(spec.conditions[kind].size for kind in self.kinds)
        # Outside the range of attributes and one-hot classes: none is no class and no value, trained or not.
        self.nothing = nn.Parameter(torch.full((self.size,), -1.0)) if self.size else None

    def forward(self, given: Values, present: Tensor) -> Tensor:
        """(B, size) float32: one-hot label, attributes, text."""
        if self.nothing is None:
            return torch.zeros(len(present), 0, device=present.device)
        parts = [F.one_hot(given[kind], self.classes).float() if kind == "label" else given[kind].float()
                 for kind in self.kinds]  # fmt: skip
        return torch.where(present[:, None], torch.cat(parts, 1), self.nothing)

    def append(self, features: Tensor, given: Values, present: Tensor) -> Tensor:
        """Features (B, F) -> (B, F + size)."""
        return torch.cat([features, self(given, present).to(features.dtype)], 1)


def sizes(spec: DataSpec, halvings: int, role: str) -> list[tuple[int, int]]:
    """Heights and widths from full size to the last, to which a 4x4 kernel has to fit.

    Raises UserError where it does not.
    """
    _, height, width = spec.shape
    sizes = [(height >> level, width >> level) for level in range(halvings + 1)]
    if min(sizes[-1]) < 4:
        raise UserError(
            f"network.{role}.widths: {height}x{width} images are smaller than 4x4 when halved {halvings} "
            "times; make widths of encoder and decoder shorter or change data.size"
        )
    return sizes


class ConvDecoderConfig(Section):
    name: Literal["conv_decoder"] = "conv_decoder"
    widths: tuple[Size, ...] = Field((96, 64, 48, 32), min_length=1)
    """Channels of each level, smallest size first."""

    def build(self, spec: DataSpec, latent: tuple[int, ...] = (48,)) -> nn.Module:
        """The network for `spec` and a latent (Z,). Raises UserError for images that are too small."""
        if len(latent) > 1:
            raise UserError("network.decoder.name: conv_decoder takes a latent vector; use residual_decoder")
        return ConvDecoder(self, spec, math.prod(latent))


class ConvDecoder(nn.Module):
    """z (B, Z) and vector conditions -> (B, C, H, W)."""

    def __init__(self, config: ConvDecoderConfig, spec: DataSpec, latent: int) -> None:
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
