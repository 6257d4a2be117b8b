"""A DCGAN pair (Radford 2015) without normalisation: a generator and a discriminator of convolutions.

The generator, of transposed convolutions.
With the defaults at 1024x1024: latent 100 -> 32x32x1024, five doublings, 117,515,843 parameters.

Initial weights: He's normal law (2015), biases 0, so that the spread of images comes from z. With PyTorch's
default, whose biases are not 0 and whose weights shrink what passes, .08 % did.

The discriminator, of strided convolutions.
With the defaults at 1024x1024: eight halvings down to 4x4, 3,915,393 parameters.

Initial weights: He's normal law (2015), biases 0.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from safelight.config import Section, Size, UserError
from safelight.types import DataSpec, Values


class DCGeneratorConfig(Section):
    name: Literal["dc_generator"] = "dc_generator"
    latent: Size = 100
    """Size of the latent."""
    stem: Size = 1024
    """Channels at the smallest size."""
    stages: tuple[Size, ...] = Field((512, 256, 128, 128, 128), min_length=1)
    """Channels after each doubling."""
    leave: Size = 16
    """Channels of the 6x6 convolution before the last."""

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError for a size that does not halve so often."""
        channels, height, width = spec.shape
        factor = 2 ** len(self.stages)
        if height % factor or width % factor:
            raise UserError(
                f"network.generator.stages: {height}x{width} images do not halve {len(self.stages)} times; "
                "make stages shorter or change data.size"
            )
        return DCGenerator(self, channels, (height // factor, width // factor))


class DCGenerator(nn.Module):
    """z (B, latent) -> (B, C, H, W) in [-1, 1]. Conditions are not looked at."""

    def __init__(self, config: DCGeneratorConfig, channels: int, seed: tuple[int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Linear(config.latent, config.stem * seed[0] * seed[1]),
            nn.LeakyReLU(0.2),
            nn.Unflatten(1, (config.stem, *seed)),
        ]
        inputs = config.stem
        for outputs in config.stages:
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            inputs = outputs
        layers += [
            nn.ZeroPad2d((2, 3, 2, 3)),  # "same" for an even kernel
            nn.Conv2d(inputs, config.leave, 6),
            nn.LeakyReLU(0.2),
            nn.Conv2d(config.leave, channels, 3, padding=1),
            nn.Tanh(),
        ]
        self.layers = nn.Sequential(*layers)
        initialise(layers)

    def forward(self, z: Tensor, given: Values, present: Tensor) -> Tensor:
        images: Tensor = self.layers(z)
        return images


def initialise(layers: list[nn.Module]) -> None:
    """First weights of a stack: the first layer sees data, the others leaky rectified values."""
    first, *others = (layer for layer in layers if hasattr(layer, "weight"))
    he(first)
    for layer in others:
        he(layer, slope=0.2)


def he(layer: nn.Module, slope: float = 1.0) -> None:
    """N(0, 2 / ((1 + slope²) n)) for n numbers that an output is made of; biases 0.

    slope: of the leaky ReLU that the layer's input went through; 1 where there was none.
    """
    assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    count = layer.weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):  # (inputs, outputs, ...): each output sees one tap in stride²
        count = layer.in_channels * layer.weight[0, 0].numel() // math.prod(layer.stride)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / ((1 + slope**2) * count)))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class DCDiscriminatorConfig(Section):
    name: Literal["dc_discriminator"] = "dc_discriminator"
    enter: Size = 64
    """Channels at full size."""
    stages: tuple[Size, ...] = Field((128, 256, 256, 256, 256, 256, 256, 256), min_length=1)
    """Channels after each halving."""
    dropout: float = Field(0.4, ge=0, lt=1)
    """Dropout before the logit."""

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError for a size that does not halve so often."""
        channels, height, width = spec.shape
        factor = 2 ** len(self.stages)
        if height % factor or width % factor:
            raise UserError(
                f"network.discriminator.stages: {height}x{width} images do not halve {len(self.stages)} "
                "times; make stages shorter or change data.size"
            )
        return DCDiscriminator(self, channels, (height // factor) * (width // factor))


class DCDiscriminator(nn.Module):
    """(B, C, H, W) -> logits (B,). Conditions are not looked at."""

    def __init__(self, config: DCDiscriminatorConfig, channels: int, pixels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, config.enter, 3, padding=1), nn.LeakyReLU(0.2)]
        inputs = config.enter
        for outputs in config.stages:
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            inputs = outputs
        layers += [nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(inputs * pixels, 1), nn.Flatten(0)]
        self.layers = nn.Sequential(*layers)
        initialise(layers)

    def forward(self, x: Tensor, given: Values, present: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits
