"""A residual discriminator with a logit and a feature, after StyleGAN2 (Karras 2020) and LAFITE (Zhou 2022).

    D(x, h) = D0(x) + <f(x), h>     the text term sums over the features of that sample only

The feature f has the size of the text feature h, so that the contrastive losses can compare them. There is no
minibatch standard deviation unless it is asked for: with it, one sample's logit depends on the others.

Initial weights: normal of variance 1, scaled when used; biases 0.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import Section, Size
from safelight.networks.style_generator import Dense, channels_at, rectified, sizes
from safelight.types import DataSpec, Values


class StyleDiscriminatorConfig(Section):
    name: Literal["style_discriminator"] = "style_discriminator"
    base: Size = Field(16384, ge=16)
    """Channels times height: a layer of 64 rows has base / 64 channels."""
    largest: Size = 512
    """Largest number of channels of a layer."""
    deviation: int = Field(0, ge=0, le=2**16)
    """Samples in a group of the minibatch standard deviation; 0 = none."""

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`."""
        return StyleDiscriminator(self, spec)


class StyleDiscriminator(nn.Module):
    """(B, C, H, W) and a text feature (B, T) -> logits (B,)."""

    entries = ("eye",)  # called by itself

    def __init__(self, config: StyleDiscriminatorConfig, spec: DataSpec) -> None:
        super().__init__()
        self.eye = LogitAndFeature(config, spec)

    def forward(self, x: Tensor, given: Values, present: Tensor) -> Tensor:
        logit, feature = self.eye(x)
        return judged(logit, feature, given, present)


def judged(logit: Tensor, feature: Tensor, given: Values, present: Tensor) -> Tensor:
    """D(x, h) = D0(x) + <f(x), h>, without the text term where there is no text: (B,)."""
    if "text" not in given:
        return logit
    return logit + torch.where(present, (feature * given["text"]).sum(1), 0)


class LogitAndFeature(nn.Module):
    """(B, C, H, W) -> D0(x) (B,) and f(x) (B, T), in float32."""

    def __init__(self, config: StyleDiscriminatorConfig, spec: DataSpec) -> None:
        super().__init__()
        channels, height, width = spec.shape
        text = spec.conditions["text"].size if "text" in spec.conditions else 0
        self.deviation = config.deviation
        pictures = sizes(height, width)[::-1]  # from the whole one down
        widths = [channels_at(rows, config.base, config.largest) for rows, _ in pictures]
        self.enter = Convolution(channels, widths[0], 1)
        self.blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))
        self.leave = Convolution(widths[-1] + bool(config.deviation), widths[-1], 3)
        rows, columns = pictures[-1]
        self.flat = Dense(widths[-1] * rows * columns, widths[-1])
        self.logit = Dense(widths[-1], 1)
        self.feature = (
            nn.Sequential(Dense(widths[-1], text), Rectified(), Dense(text, text)) if text else None
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = rectified(self.enter(x))
        for block in self.blocks:
            x = block(x)
        if self.deviation:
            x = torch.cat([x, deviation(x, self.deviation)], dim=1)
        h = rectified(self.flat(rectified(self.leave(x)).flatten(1)))
        feature = self.feature(h) if self.feature is not None else h
        return self.logit(h).squeeze(1).float(), feature.float()


class DownBlock(nn.Module):
    """Half the size: two 3x3 convolutions beside a 1x1 one, their sum at unit variance."""

    recomputable = True

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = Convolution(inputs, inputs, 3), Convolution(inputs, outputs, 3)
        self.short = Convolution(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        branch = rectified(self.second(F.avg_pool2d(rectified(self.first(x)), 2)))
        short: Tensor = self.short(F.avg_pool2d(x, 2))
        return (branch + short) / math.sqrt(2)


class Convolution(nn.Module):
    """A convolution with an equalised learning rate that keeps the size."""

    def __init__(self, inputs: int, outputs: int, size: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = 1 / math.sqrt(inputs * size * size)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.gain, self.bias, padding=self.weight.shape[-1] // 2)


class Rectified(nn.Module):
    """`rectified`, as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return rectified(x)


def deviation(x: Tensor, size: int) -> Tensor:
    """How much a group of samples differs, (B, 1, H, W): one number a group (Karras 2018)."""
    group = math.gcd(len(x), size)
    groups = x.reshape(-1, group, *x.shape[1:])
    spread = groups.var(1, correction=0).add(1e-8).sqrt().mean((1, 2, 3))
    return spread.repeat_interleave(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
