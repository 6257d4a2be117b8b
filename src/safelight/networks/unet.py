"""A small U-Net built for images a second: space-to-depth stem, few wide levels, cheap normalisation.

Residual blocks take the noise level and the conditions as a scale and shift after their second norm
(Dhariwal and Nichol 2021); the last layer of every branch starts at zero, so that the network starts as
its skip connections and outputs zero. Measured on a CPU in
bfloat16: blocks of plain 3x3 convolutions train four times the images a second of depthwise 5x5 ones.

Initial weights of the others: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from safelight.config import Depth, Section, Size, UserError
from safelight.types import DataSpec

Kind = Literal["label", "attributes", "text", "mask"]


class UNetConfig(Section):
    name: Literal["unet"] = "unet"
    patch: Size = 2
    """Side of the patches that the stem folds into channels: 2 turns 28x28x1 into 14x14x4."""
    width: Size = 64
    """Channels of the finest level."""
    multipliers: tuple[Size, ...] = Field((1, 2), min_length=1)
    """Channels of each level, in multiples of width; each level halves."""
    blocks: Depth = 1
    """Residual blocks a level, on the way down and again on the way up."""
    middle: Depth = 3
    """Residual blocks of the coarsest level."""
    embedding: Size = 256
    """Size of the embedding of noise level and conditions."""
    attention: tuple[int, ...] = ()
    """Levels with self-attention after each block; 0 is the finest."""
    head: Size = 64
    """Largest number of channels of an attention head."""
    groups: Size = 1
    """Groups of the group norms; 1 is fastest on a CPU."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout within residual blocks."""
    time: bool = True
    """Condition on the noise level."""
    interval: bool = False
    """Condition on the length of a step as well, as meanflow needs."""
    spade: Size | None = None
    """Channels within SPADE (Park 2019), which applies the mask after the second norm of every block.
    Default: no SPADE; the mask is joined to the image as channels."""
    ignore: tuple[Kind, ...] = ()
    """Conditions of the data to ignore."""

    @property
    def multiple(self) -> int:
        """Sides of images are multiples of so many pixels; it takes images of any such size."""
        return int(self.patch * 2 ** (len(self.multipliers) - 1))

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError for a size or a width that does not divide."""
        _, height, width = spec.shape
        step = self.multiple
        if height % step or width % step:
            raise UserError(
                f"network.patch: {height}x{width} images do not divide by {step} (patch x 2 for each further"
                " level); make patch smaller, multipliers shorter, or change the image size, data.size"
            )
        if self.width % self.groups:
            raise UserError(f"network.groups: {self.groups} does not divide width {self.width}")
        if self.spade and ("mask" not in spec.conditions or "mask" in self.ignore):
            raise UserError("network.spade: the data has no masks; add masks, or remove the key")
        for level in self.attention:
            if not 0 <= level < len(self.multipliers):
                raise UserError(f"network.attention: no level {level}; 0 is the finest of multipliers")
            channels = self.width * self.multipliers[level]
            if channels % min(self.head, channels):
                raise UserError(f"network.head: {self.head} does not divide the {channels} of level {level}")
        return UNet(self, spec)


class UNet(nn.Module):
    """(B, C, H, W) -> (B, C, H, W), zero before training."""

    def __init__(self, config: UNetConfig, spec: DataSpec) -> None:
        super().__init__()
        channels = spec.shape[0]
        masks = spec.conditions["mask"].size if "mask" in spec.conditions else 0
        self.ignored = config.ignore
        self.masked = masks > 0 and "mask" not in config.ignore
        self.spade = self.masked and config.spade is not None
        laid = masks if self.spade else 0
        self.patch, self.interval = config.patch, config.interval
        pixels = config.patch**2
        widths = [config.width * multiplier for multiplier in config.multipliers]
        features = config.embedding

        def stage(level: int, inputs: int, blocks: int) -> Stage:
            return Stage(config, inputs, widths[level], features, laid, blocks, level in config.attention)

        self.embedding = Embedding(config, spec, features)
        inputs = channels + (masks if self.masked and not self.spade else 0)
        self.stem = nn.Conv2d(inputs * pixels, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, (fine, coarse) in enumerate(pairwise(widths)):
            self.down.append(stage(level, fine, config.blocks))
            self.shrink.append(nn.Conv2d(fine, coarse, 2, stride=2))
            self.up.append(stage(level, 2 * fine, config.blocks))
            self.grow.append(nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2)))
        self.middle = stage(len(widths) - 1, widths[-1], config.middle)
        self.head = nn.Sequential(
            nn.GroupNorm(config.groups, widths[0]),
            nn.SiLU(),
            zeroed(nn.Conv2d(widths[0], channels * pixels, 3, padding=1)),
        )

    def forward(self, x: Tensor, t: Tensor, given: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """x: (B, C, H, W). t: (B,) in [0, 1]. given: conditions by kind. present: (B,) bool.

        With `interval` t is (B, 2): the noise level, and the length of the step from it towards the image.
        A row that is not present gets a learned vector in place of its conditions, and an empty mask.
        """
        e = self.embedding(t, given, present)
        mask = given["mask"] * present[:, None, None, None] if self.masked else None
        if mask is not None and not self.spade:
            x = torch.cat([x, mask], 1)
        x = self.stem(F.pixel_unshuffle(x, self.patch))
        skips = []
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            x = stage(x, e, mask)
            skips.append(x)
            x = shrink(x)
        x = self.middle(x, e, mask)
        for stage, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            x = stage(torch.cat([grow(x), skips.pop()], 1), e, mask)
        return F.pixel_shuffle(self.head(x), self.patch)


class Conditioned(Protocol):
    """What the section of a network says of its conditions."""

    @property
    def time(self) -> bool: ...

    @property
    def interval(self) -> bool: ...

    @property
    def ignore(self) -> tuple[Kind, ...]: ...


class Embedding(nn.Module):
    """The noise level and the conditions that are vectors, as one vector (B, features)."""

    frequencies: Tensor

    def __init__(self, config: Conditioned, spec: DataSpec, features: int) -> None:
        super().__init__()
        seen = {kind: each for kind, each in spec.conditions.items() if kind not in config.ignore}
        self.time = None
        if config.time:
            octaves = torch.linspace(0, math.log(1000), 32)  # periods from 6.3 to .0063 of t's unit range
            self.register_buffer("frequencies", octaves.exp(), persistent=False)
            times = 128 if config.interval else 64
            self.time = nn.Sequential(nn.Linear(times, features), nn.SiLU(), nn.Linear(features, features))
        self.label = nn.Embedding(seen["label"].size, features) if "label" in seen else None
        vectors = [kind for kind in ("attributes", "text") if kind in seen]
        self.vectors = nn.ModuleDict({kind: nn.Linear(seen[kind].size, features) for kind in vectors})
        self.null = nn.Parameter(torch.randn(features)) if seen else None
        self.features = features

    def forward(self, t: Tensor, given: Mapping[str, Tensor], present: Tensor) -> Tensor:
        e = t.new_zeros(t.shape[0], self.features)  # len would fix the batch size of an exported graph
        if self.label is not None:
            e = e + self.label(given["label"])
        for kind, layer in self.vectors.items():
            e = e + layer(given[kind])
        if self.null is not None:
            e = torch.where(present[:, None], e, self.null.to(e.dtype))
        if self.time is not None:
            angles = (t[..., None] * self.frequencies).flatten(1)
            e = e + self.time(torch.cat([angles.sin(), angles.cos()], 1))
        return F.silu(e)


class Stage(nn.Module):
    """The blocks of one level, each followed by attention where the level has it."""

    def __init__(
        self,
        config: UNetConfig,
        inputs: int,
        outputs: int,
        features: int,
        masks: int,
        blocks: int,
        attention: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(config, inputs if first else outputs, outputs, features, masks)
            for first in [True] + [False] * (blocks - 1)
        )
        attentions = (Attention(outputs, config.head, config.groups) for _ in range(blocks))
        self.attentions = nn.ModuleList(attentions) if attention else None

    def forward(self, x: Tensor, e: Tensor, mask: Tensor | None) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = block(x, e, mask)
            if self.attentions is not None:
                x = self.attentions[index](x)
        return x


class Block(nn.Module):
    """x + conv(silu(scale * norm(conv(silu(norm x))) + shift)), scale and shift from the embedding.

    With SPADE every pixel is scaled and shifted once more, from the mask.
    """

    recomputable = True

    def __init__(self, config: UNetConfig, inputs: int, outputs: int, features: int, masks: int = 0) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(config.groups, outputs)
        self.modulate = zeroed(nn.Linear(features, 2 * outputs))
        self.spade = Spade(masks, config.spade, outputs) if masks and config.spade else None
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, e: Tensor, mask: Tensor | None = None) -> Tensor:
        scale, shift = self.modulate(e)[:, :, None, None].chunk(2, dim=1)
        y = self.norm2(self.conv1(F.silu(self.norm1(x))))
        y = torch.addcmul(shift, y, 1 + scale)  # one pass over y instead of two
        if self.spade is not None and mask is not None:
            y = self.spade(y, mask)
        y = self.conv2(self.dropout(F.silu(y)))
        result: Tensor = self.skip(x) + y
        return result


class Spade(nn.Module):
    """y * (1 + γ(mask)) + β(mask), a scale and a shift of every pixel (Park 2019); starts as nothing."""

    def __init__(self, masks: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(masks, hidden, 3, padding=1)
        self.out = zeroed(nn.Conv2d(hidden, 2 * outputs, 3, padding=1))

    def forward(self, y: Tensor, mask: Tensor) -> Tensor:
        shares = F.avg_pool2d(mask, mask.shape[2] // y.shape[2])
        scale, shift = self.out(F.relu(self.enter(shares))).chunk(2, dim=1)
        return torch.addcmul(shift, y, 1 + scale)


class Attention(nn.Module):
    """Self-attention over the pixels of a feature map, added to it."""

    recomputable = True

    def __init__(self, channels: int, head: int, groups: int) -> None:
        super().__init__()
        self.heads = channels // min(head, channels)
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1)  # a view: channels_last lies in memory like this
        q, k, v = self.qkv(tokens).view(b, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = attend(q, k, v).transpose(1, 2).reshape(b, height, width, c)
        result: Tensor = x + self.out(y).permute(0, 3, 1, 2)
        return result


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention (B, heads, pixels, d), on a CPU in float32: its bfloat16 backward is 3-4 times slower."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)


def zeroed(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """The layer with weight and bias zero: its branch starts as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
