"""A text-conditioned generator whose every layer is modulated by a style, after StyleGAN2 (Karras 2020).

    w = f(z)                          mapping; z normalised first
    s = A w + b  [+ A' FC FC h]       the style of a layer; h the text feature, as in LAFITE (Zhou 2022)
    y = d * conv(s * x)               d = 1 / sqrt(sum over inputs and taps of (s * weight)^2): demodulation

Scaling the input and then the output is the same as convolving each sample with its own weights, and needs
no grouped convolution; benchmarks/modulated.py has both. Pictures of all sizes are summed (skip outputs).
Learning rates are equalised: weights are stored at unit variance and scaled when used.

Initial weights: normal of variance 1 so scaled; biases 0, those of styles 1; noise of strength 0.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import Depth, Section, Size
from safelight.constants import constant
from safelight.types import DataSpec, Values


class StyleGeneratorConfig(Section):
    name: Literal["style_generator"] = "style_generator"
    latent: Size = 512
    """Size of z and w."""
    depth: Depth = 8
    """Layers of the mapping from z to w."""
    base: Size = Field(16384, ge=16)
    """Channels times height: a layer of 64 rows has base / 64 channels."""
    largest: Size = 512
    """Largest number of channels of a layer."""
    told: int = Field(0, ge=0, le=2**16)
    """Width of the two layers that process the text feature; 0 = the size of the feature."""
    noise: bool = True
    """Add noise at every pixel, with learned strength."""

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`: from its smallest picture, every size doubles."""
        return StyleGenerator(self, spec)


def sizes(height: int, width: int) -> list[tuple[int, int]]:
    """From the smallest picture to the whole one, each twice the one before: halved as far as 4."""
    sizes = [(height, width)]
    while all(side % 2 == 0 and side > 4 for side in sizes[0]):
        sizes.insert(0, (sizes[0][0] // 2, sizes[0][1] // 2))
    return sizes


def channels_at(height: int, base: int, largest: int) -> int:
    """Channels of a layer whose picture has that many rows."""
    return max(1, min(base // height, largest))


class StyleGenerator(nn.Module):
    """z (B, latent) and a text feature (B, T) -> (B, C, H, W)."""

    entries = ("mapping", "synthesis")  # called one by one

    def __init__(self, config: StyleGeneratorConfig, spec: DataSpec) -> None:
        super().__init__()
        self.mapping = Mapping(config.latent, config.depth)
        self.synthesis = Synthesis(config, spec)

    def forward(self, z: Tensor, given: Values, present: Tensor, noise: Tensor | None = None) -> Tensor:
        """noise: (B, 2, H, W) standard normal, one for each of the two layers of a size; None for none."""
        w = self.mapping(z)[:, None].expand(-1, self.synthesis.styles, -1)
        images: Tensor = self.synthesis(w, given, present, noise)
        return images


class Mapping(nn.Module):
    """z (B, latent) -> w (B, latent); learns a hundredth as fast as other layers."""

    def __init__(self, latent: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Dense(latent, latent, rate=0.01) for _ in range(depth))

    def forward(self, z: Tensor) -> Tensor:
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            w = rectified(layer(w))
        return w


class Synthesis(nn.Module):
    """Styles w (B, styles, latent) -> (B, C, H, W), not bounded to [-1, 1]."""

    def __init__(self, config: StyleGeneratorConfig, spec: DataSpec) -> None:
        super().__init__()
        channels, height, width = spec.shape
        size = spec.conditions["text"].size if "text" in spec.conditions else 0
        text = (size, config.told or size)
        self.noise = config.noise
        self.sizes = sizes(height, width)
        widths = [channels_at(size, config.base, config.largest) for size, _ in self.sizes]
        self.start = nn.Parameter(torch.randn(1, widths[0], *self.sizes[0]))
        ends = [(inputs, outputs) for inputs, outputs in zip([widths[0], *widths], widths, strict=False)]
        self.first = nn.ModuleList(
            StyledLayer(inputs, outputs, config.latent, text, up=number > 0)
            for number, (inputs, outputs) in enumerate(ends)
        )
        self.second = nn.ModuleList(StyledLayer(width, width, config.latent, text) for width in widths[1:])
        self.pictures = nn.ModuleList(
            Modulated(width, channels, config.latent, text, size=1, demodulate=False) for width in widths
        )
        self.styles = (
            len(self.first) + len(self.second) + 1
        )  # the last picture's; others share the next layer's

    def forward(self, w: Tensor, given: Values, present: Tensor, noise: Tensor | None = None) -> Tensor:
        h = torch.where(present[:, None], given["text"], 0) if "text" in given else None
        x = self.start.expand(len(w), -1, -1, -1)
        picture: Tensor | None = None
        style = 0
        for number, size in enumerate(self.sizes):
            grain = at_size(noise, size) if self.noise and noise is not None else (None, None)
            x = self.first[number](x, w[:, style], h, grain[0])
            style += 1
            if number:
                x = self.second[number - 1](x, w[:, style], h, grain[1])
                style += 1
            part = self.pictures[number](x, w[:, style], h)
            picture = part if picture is None else smoothly_doubled(picture) + part
        assert picture is not None
        return picture


class StyledLayer(nn.Module):
    """A modulated 3x3 convolution, noise, bias, leaky ReLU; `up` doubles the picture first."""

    recomputable = True

    def __init__(
        self, inputs: int, outputs: int, latent: int, text: tuple[int, int], up: bool = False
    ) -> None:
        super().__init__()
        self.up = up
        self.convolution = Modulated(inputs, outputs, latent, text)
        self.strength = nn.Parameter(torch.zeros(()))  # of the noise

    def forward(self, x: Tensor, w: Tensor, h: Tensor | None, noise: Tensor | None) -> Tensor:
        x = self.convolution(smoothly_doubled(x) if self.up else x, w, h)
        if noise is not None:
            x = x + self.strength * noise
        return rectified(x)


class Modulated(nn.Module):
    """A convolution whose inputs are scaled by a style, its outputs brought back to unit variance."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        latent: int,
        text: tuple[int, int],
        size: int = 3,
        demodulate: bool = True,
    ) -> None:
        """text: size of the text feature, 0 = none, and width of its layers."""
        super().__init__()
        self.demodulate = demodulate
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain = 1 / math.sqrt(inputs * size * size)
        self.affine = Dense(latent, inputs, bias=1.0)
        self.text = TextStyle(*text, inputs) if text[0] else None

    def style(self, w: Tensor, h: Tensor | None) -> Tensor:
        """The scale of every input channel (B, inputs)."""
        scale: Tensor = self.affine(w)
        return scale if self.text is None or h is None else scale + self.text(h)

    def forward(self, x: Tensor, w: Tensor, h: Tensor | None = None) -> Tensor:
        scale, weight = self.style(w, h), self.weight * self.gain
        x = F.conv2d(x * scale[:, :, None, None].to(x.dtype), weight, padding=weight.shape[-1] // 2)
        if self.demodulate:
            energy = scale.square() @ weight.square().sum((2, 3)).T
            x = x * (energy + 1e-8).rsqrt()[:, :, None, None].to(x.dtype)
        return x + self.bias[:, None, None].to(x.dtype)


class TextStyle(nn.Module):
    """A text feature (B, T) through two layers and an affine -> what it adds to a style (B, outputs)."""

    def __init__(self, text: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = Dense(text, width), Dense(width, width)
        self.affine = Dense(width, outputs)

    def forward(self, h: Tensor) -> Tensor:
        h = h * math.sqrt(h.shape[1])  # of unit length: entries of about unit variance
        added: Tensor = self.affine(rectified(self.second(rectified(self.first(h)))))
        return added


class Dense(nn.Module):
    """A linear layer with an equalised learning rate, times `rate`."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.gain, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.gain, self.bias * self.rate)


def rectified(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times √2, which keeps the variance about 1."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def smoothly_doubled(x: Tensor) -> Tensor:
    """Twice as large, by the filter (1 3 3 1) / 4 along each side, edges repeated: bilinear interpolation.

    On CUDA its backward pass is not deterministic, and on a CPU it is fast in channels_last alone (measured:
    1.6 ms against 11 ms for 64x32x16x16); elsewhere it is two products with matrices, the same to rounding.
    """
    if x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last):
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    rows, columns = (constant(_doubling, side, device=x.device, dtype=x.dtype) for side in x.shape[2:])
    return rows @ x @ columns.T


def _doubling(side: int) -> Tensor:
    """(2 side, side): each new pixel is 3/4 its old one and 1/4 the neighbour on its side."""
    old = torch.arange(side)
    matrix = torch.zeros(2 * side, side)
    for half, neighbour in ((0, (old - 1).clamp(min=0)), (1, (old + 1).clamp(max=side - 1))):
        matrix[2 * old + half, old] += 0.75
        matrix[2 * old + half, neighbour] += 0.25
    return matrix


def at_size(noise: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Noise (B, 2, H, W) for the two layers of a smaller size: means over squares, at unit variance."""
    factor = noise.shape[2] // size[0]
    smaller = F.avg_pool2d(noise, factor) * factor
    return smaller[:, :1], smaller[:, 1:]
