"""A residual GAN pair without normalisation, in the spirit of R3GAN (Huang 2024).

The generator, conditioned by its stem.
Every branch ends in a convolution that starts at zero (fix-up initialisation, Zhang 2019), so that no
normalisation is needed and no sample depends on another one.

Initial weights of the others: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output.

The discriminator, classes by projection (Miyato and Koyama 2018).
Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output, but 0 in
the last layer of a branch.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import Depth, Section, Size, UserError
from safelight.networks.style_generator import smoothly_doubled
from safelight.types import DataSpec, Values


def require_divisible(spec: DataSpec, factor: int, role: str) -> None:
    """Raises UserError where height or width of the images do not divide by `factor`."""
    _, height, width = spec.shape
    if height % factor or width % factor:
        raise UserError(
            f"network.{role}.widths: {height}x{width} images do not divide by {factor}; "
            "make widths shorter or change data.size"
        )


class ResidualGeneratorConfig(Section):
    name: Literal["residual_generator"] = "residual_generator"
    latent: Size = 64
    """Size of the latent."""
    widths: tuple[Size, ...] = Field((256, 128, 64), min_length=1)
    """Channels of each level, smallest size first; each level doubles."""
    blocks: Depth = 1
    """Residual blocks at each size."""
    patch: Size = 1
    """Side in pixels of the patches that cells become at full size; 2 is faster."""

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError for a size that does not halve so often."""
        require_divisible(spec, self.patch * 2 ** (len(self.widths) - 1), "generator")
        return ResidualGenerator(self, spec)


class ResidualGenerator(nn.Module):
    """z (B, latent) and a class -> (B, C, H, W)."""

    def __init__(self, config: ResidualGeneratorConfig, spec: DataSpec) -> None:
        super().__init__()
        channels, height, width = spec.shape
        factor = config.patch * 2 ** (len(config.widths) - 1)
        self.seed = (config.widths[0], height // factor, width // factor)
        self.classes = spec.classes
        self.embed = nn.Embedding(spec.classes + 1, config.latent) if spec.classes else None
        inputs = config.latent * (2 if self.embed else 1)
        self.stem = nn.Linear(inputs, self.seed[0] * self.seed[1] * self.seed[2])
        self.mix = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in zip(config.widths, config.widths[1:], strict=False)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(config.blocks))) for width in config.widths
        )
        self.leave = nn.Conv2d(config.widths[-1], channels * config.patch**2, 3, padding=1)
        self.patch = config.patch

    def forward(self, z: Tensor, given: Values, present: Tensor) -> Tensor:
        if self.embed is not None:
            label = torch.where(present, given["label"], self.classes)
            z = torch.cat([z, self.embed(label)], dim=1)
        x = self.stem(z).unflatten(1, self.seed)
        x = self.stages[0](x)
        for mix, stage in zip(self.mix, self.stages[1:], strict=True):
            x = stage(smoothly_doubled(mix(x)))
        images: Tensor = F.pixel_shuffle(self.leave(F.leaky_relu(x, 0.2)), self.patch)
        return images


class ResidualBlock(nn.Module):
    """x + f(x), f of two 3x3 convolutions, zero at first."""

    recomputable = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.2)), 0.2))
        return x + branch


class ResidualDiscriminatorConfig(Section):
    name: Literal["residual_discriminator"] = "residual_discriminator"
    widths: tuple[Size, ...] = Field((64, 128, 256), min_length=1)
    """Channels of each level, full size first; each level halves."""
    blocks: Depth = 1
    """Residual blocks at each size."""
    patch: Size = 1
    """Side in pixels of the patches that become cells at full size; 2 is faster."""

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError for a size that does not halve so often."""
        require_divisible(spec, self.patch * 2 ** (len(self.widths) - 1), "discriminator")
        return ResidualDiscriminator(self, spec)


class ResidualDiscriminator(nn.Module):
    """(B, C, H, W) and a class -> logits (B,)."""

    def __init__(self, config: ResidualDiscriminatorConfig, spec: DataSpec) -> None:
        super().__init__()
        channels, height, width = spec.shape
        factor = config.patch * 2 ** (len(config.widths) - 1)
        features = config.widths[-1]
        self.classes = spec.classes
        self.patch = config.patch
        self.enter = nn.Conv2d(channels * config.patch**2, config.widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(config.blocks))) for width in config.widths
        )
        self.mix = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in zip(config.widths, config.widths[1:], strict=False)
        )
        self.flatten = nn.Linear(features * (height // factor) * (width // factor), features)
        self.logit = nn.Linear(features, 1)
        self.embed = nn.Embedding(spec.classes + 1, features) if spec.classes else None

    def forward(self, x: Tensor, given: Values, present: Tensor) -> Tensor:
        x = self.stages[0](self.enter(F.pixel_unshuffle(x, self.patch)))
        for mix, stage in zip(self.mix, self.stages[1:], strict=True):
            x = stage(mix(F.avg_pool2d(x, 2)))
        h = F.leaky_relu(self.flatten(F.leaky_relu(x, 0.2).flatten(1)), 0.2)
        logits: Tensor = self.logit(h).squeeze(1)
        if self.embed is not None:
            label = torch.where(present, given["label"], self.classes)
            logits = logits + (h * self.embed(label)).sum(1) / h.shape[1] ** 0.5
        return logits
