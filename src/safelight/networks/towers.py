"""Joint encoders of images and texts: two towers that are trained, and a frozen encoder that was.

The image side: residual blocks that halve the picture, without batch statistics.

Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output.

The text side: a few layers on the features of a frozen text encoder.
Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output.

A frozen encoder of images, beside whose features those of texts lie: trained here, or a CLIP.
Its folder says which: encoder.json with encoder.safetensors, or what transformers saves of a CLIP.

Initial weights: those of the file; it is never trained.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import Reference, Section, Size, UserError, install
from safelight.constants import constant
from safelight.language import TextTower
from safelight.types import DataSpec

GROUPS = 8  # of the normalisation, at most


class ImageTowerConfig(Section):
    name: Literal["image_tower"] = "image_tower"
    widths: tuple[Size, ...] = Field((32, 64, 96, 128), min_length=1)
    """Channels of each level, full size first; each level halves."""
    features: Size = 128
    """Size of the joint features."""

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`: (B, C, H, W) -> (B, features)."""
        return ImageTower(self, spec.shape[0])


class ImageTower(nn.Module):
    """(B, C, H, W) -> (B, features), not normalised. Pictures of other sizes may be given."""

    def __init__(self, config: ImageTowerConfig, channels: int) -> None:
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


class TextTowerConfig(Section):
    name: Literal["text_tower"] = "text_tower"
    width: Size = 256
    """Width of the hidden layers."""
    depth: int = Field(1, ge=0, le=256)
    """Hidden layers; 0 = a linear projection."""
    features: Size = 128
    """Size of the joint features."""

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`: (B, T) -> (B, features)."""
        text = spec.conditions["text"].size if "text" in spec.conditions else 1
        return TextTower(text, self.width, self.depth, self.features)


MEAN, STD = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)  # of CLIP's training images, in [0, 1]


class JointEncoderConfig(Section):
    name: Literal["joint_encoder"] = "joint_encoder"
    path: Reference = Reference("run:encoder")
    """Encoder, the same as data.text_encoder: recipe:NAME or run:NAME of the method joint, or the folder or
    Hub id of a CLIP."""

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError where the folder holds none, or one of other images."""
        folder = Path(self.path)
        if (folder / "encoder.json").is_file():
            return _trained_here(folder, spec)
        if (folder / "config.json").is_file():
            return ClipImages(folder)
        raise UserError(f"network.encoder.path: {self.path} is neither a safelight encoder nor a CLIP")


def _trained_here(folder: Path, spec: DataSpec) -> nn.Module:
    facts = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    if facts["channels"] != spec.shape[0]:
        raise UserError(
            f"network.encoder.path: {facts['name']} is for images of {facts['channels']} channels, "
            f"these have {spec.shape[0]}"
        )
    tower = ImageTowerConfig(**facts["image"]).build(spec)
    weights = load_file(folder / "encoder.safetensors")
    start = "image."
    image = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
    tower.load_state_dict(image, assign=True)
    return UnitLength(tower)


class UnitLength(nn.Module):
    """(B, C, H, W) -> (B, T) of unit length, in float32."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.tower(x).float(), dim=1)


class ClipImages(nn.Module):
    """The image side of a CLIP: (B, C, H, W) in [-1, 1] -> (B, T) of unit length."""

    mean: Tensor
    std: Tensor

    def __init__(self, folder: Path) -> None:
        super().__init__()
        try:
            from transformers import CLIPVisionModelWithProjection
        except ImportError as error:
            raise UserError(f"{folder}: a CLIP; run: {install('pretrained')}") from error
        self.model = CLIPVisionModelWithProjection.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True
        )
        side = self.model.config.image_size
        self.side = side if isinstance(side, int) else 224
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = resized(x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3], self.side)
        features = self.model(pixel_values=((x + 1) / 2 - self.mean) / self.std).image_embeds
        return F.normalize(features.float(), dim=1)


def resized(x: Tensor, side: int) -> Tensor:
    """Pictures (B, C, H, W) at side x side, as products with matrices: deterministic wherever it runs."""
    rows, columns = (
        constant(_resizing, length, side, device=x.device, dtype=x.dtype) for length in x.shape[2:]
    )
    return rows @ x @ columns.T


def _resizing(length: int, side: int) -> Tensor:
    """(side, length) weights of a triangle filter, wide enough that no pixel is passed over."""
    scale = length / side
    centre = (torch.arange(side) + 0.5) * scale
    reach = max(1.0, scale)
    weights = (1 - (torch.arange(length) + 0.5 - centre[:, None]).abs() / reach).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)
