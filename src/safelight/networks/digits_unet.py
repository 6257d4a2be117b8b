"""The digits U-Net: two levels above a flattened bottleneck, batch norm and GELU.

The network of the project "Diffusion models from scratch" of Berkeley's course CS 280A. Unconditional
it denoises in one step; conditioned on time it predicts the noise of a DDPM; conditioned on classes as
well it does so with classifier-free guidance.

Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safelight.config import Section, Size, UserError
from safelight.types import DataSpec


class DigitsUNetConfig(Section):
    name: Literal["digits_unet"] = "digits_unet"
    width: Size = 64
    """Channels of the first level; the second has twice as many."""
    time: bool = True
    """Condition on the noise level."""
    classes: bool = False
    """Condition on the class labels."""

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError for a shape or a condition it cannot have."""
        channels, height, width = spec.shape
        if height % 4 or width % 4:
            raise UserError(f"data.size: {height}x{width} images; digits_unet needs multiples of 4")
        if self.classes and not spec.classes:
            raise UserError("network.classes: the data has no labels; set network.classes = false")
        bottom = (height // 4, width // 4)
        return DigitsUNet(channels, self.width, bottom, self.time, spec.classes if self.classes else 0)


class DigitsUNet(nn.Module):
    """(B, C, H, W) -> (B, C, H, W).

    channels: C. width: D. bottom: (H/4, W/4), 7x7 for 28x28, pooled to one pixel in the middle.
    time: whether t is seen. classes: size of the one-hot condition, 0 for none.
    """

    def __init__(self, channels: int, width: int, bottom: tuple[int, int], time: bool, classes: int) -> None:
        super().__init__()
        d = width
        self.classes = classes
        self.ignored = () if classes else ("label",)  # conditions not to be seen
        self.enter = conv_block(channels, d)
        self.down1 = nn.Sequential(down(d, d), conv_block(d, d))
        self.down2 = nn.Sequential(down(d, 2 * d), conv_block(2 * d, 2 * d))
        self.flatten = nn.Sequential(nn.AvgPool2d(bottom), nn.GELU())
        self.unflatten = normed(nn.ConvTranspose2d(2 * d, 2 * d, bottom), 2 * d)
        self.up1 = nn.Sequential(up(4 * d, d), conv_block(d, d))
        self.up2 = nn.Sequential(up(2 * d, d), conv_block(d, d))
        self.leave = conv_block(2 * d, d)
        self.out = nn.Conv2d(d, channels, 3, padding=1)  # plain: GELU cannot reach an epsilon target
        self.time = nn.ModuleList([fc_block(1, 2 * d), fc_block(1, d)]) if time else None
        self.gates = nn.ModuleList([fc_block(classes, 2 * d), fc_block(classes, d)]) if classes else None

    def forward(self, x: Tensor, t: Tensor, given: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """x: (B, C, H, W). t: (B,) in [0, 1]. given["label"]: (B,). present: (B,) bool.

        A label that is not present is the zero vector in place of its one-hot vector: its gate is what
        the FC blocks make of their biases, learned, and no class has it.
        """
        shifts, gates = self._shifts(x, t), self._gates(x, given, present)
        skip1 = self.enter(x)
        skip2 = self.down1(skip1)
        skip3 = self.down2(skip2)
        middle = gates[0] * self.unflatten(self.flatten(skip3)) + shifts[0]
        y = gates[1] * self.up1(torch.cat([middle, skip3], 1)) + shifts[1]
        y = self.up2(torch.cat([y, skip2], 1))
        output: Tensor = self.out(self.leave(torch.cat([y, skip1], 1)))
        return output

    def _shifts(self, x: Tensor, t: Tensor) -> list[Tensor | float]:
        if self.time is None:
            return [0.0, 0.0]
        level = t.to(x.dtype)[:, None]
        return [block(level)[:, :, None, None] for block in self.time]

    def _gates(self, x: Tensor, given: Mapping[str, Tensor], present: Tensor) -> list[Tensor | float]:
        if self.gates is None:
            return [1.0, 1.0]
        hot = F.one_hot(given["label"], self.classes).to(x.dtype) * present[:, None]
        return [block(hot)[:, :, None, None] for block in self.gates]


def normed(layer: nn.Module, channels: int) -> nn.Sequential:
    """The layer, then batch norm and GELU."""
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.GELU())


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """Two normed 3x3 convolutions; the size stays."""
    return nn.Sequential(
        normed(nn.Conv2d(inputs, outputs, 3, padding=1), outputs),
        normed(nn.Conv2d(outputs, outputs, 3, padding=1), outputs),
    )


def down(inputs: int, outputs: int) -> nn.Sequential:
    """Halves height and width: a normed 3x3 convolution of stride 2."""
    return normed(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), outputs)


def up(inputs: int, outputs: int) -> nn.Sequential:
    """Doubles height and width: a normed 4x4 transposed convolution of stride 2."""
    return normed(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), outputs)


def fc_block(inputs: int, outputs: int) -> nn.Sequential:
    """Linear, GELU, Linear: from a scalar or a one-hot vector to one value a channel."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs))
