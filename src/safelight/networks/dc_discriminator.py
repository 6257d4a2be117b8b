"""A discriminator of strided convolutions without normalisation, after DCGAN (Radford 2015).

With the defaults at 1024x1024: eight halvings down to 4x4, 3,915,393 parameters.

Initial weights: He's normal law (2015), biases 0.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from safelight.config import Section, Size, UserError
from safelight.networks.dc_generator import he
from safelight.types import DataSpec, Values


class Config(Section):
    name: Literal["dc_discriminator"] = "dc_discriminator"
    enter: Size = Field(default=64, description="channels at full size")
    stages: tuple[Size, ...] = Field(
        default=(128, 256, 256, 256, 256, 256, 256, 256),
        min_length=1,
        description="channels after each halving",
    )
    dropout: float = Field(default=0.4, ge=0, lt=1, description="before the logit")

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

    def __init__(self, config: Config, channels: int, pixels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, config.enter, 3, padding=1), nn.LeakyReLU(0.2)]
        inputs = config.enter
        for outputs in config.stages:
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            inputs = outputs
        layers += [nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(inputs * pixels, 1), nn.Flatten(0)]
        self.layers = nn.Sequential(*layers)
        enter, *others = (layer for layer in layers if hasattr(layer, "weight"))
        he(enter)
        for layer in others:
            he(layer, slope=0.2)

    def forward(self, x: Tensor, given: Values, present: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits
