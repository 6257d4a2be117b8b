"""The image side of a joint encoder: residual blocks that halve the picture, without batch statistics.

Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import Section, Size
from safelight.types import DataSpec

GROUPS = 8  # of the normalisation, at most


class Config(Section):
    name: Literal["image_tower"] = "image_tower"
    widths: tuple[Size, ...] = Field(
        default=(32, 64, 96, 128), min_length=1, description="channels from full size on; each halves"
    )
    features: Size = Field(default=128, description="size of the joint features")

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`: (B, C, H, W) -> (B, features)."""
        return ImageTower(self, spec.shape[0])


class ImageTower(nn.Module):
    """(B, C, H, W) -> (B, features), not normalised. Pictures of other sizes may be given."""

    def __init__(self, config: Config, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, config.widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(TowerBlock(a, b) for a, b in pairwise(config.widths))
        self.norm = nn.GroupNorm(groups(config.widths[-1]), config.widths[-1])
        self.project = nn.Linear(2 * config.widths[-1], config.features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        x = F.silu(self.norm(x))
        projected: Tensor = self.project(_pooled(x))
        return projected


class TowerBlock(nn.Module):
    """Half the size: two convolutions after normalisation, beside an averaged 1x1 one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.before, self.between = (
            nn.GroupNorm(groups(inputs), inputs),
            nn.GroupNorm(groups(outputs), outputs),
        )
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.short = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.avg_pool2d(self.first(F.silu(self.before(x))), 2)
        branch = self.second(F.silu(self.between(branch)))
        out: Tensor = self.short(F.avg_pool2d(x, 2)) + branch
        return out


def groups(channels: int) -> int:
    """The most groups, up to GROUPS, that divide so many channels."""
    return next(count for count in range(GROUPS, 0, -1) if channels % count == 0)


def _pooled(x: Tensor) -> Tensor:
    """Mean and maximum over the picture: what there is, and what there is much of."""
    return torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
