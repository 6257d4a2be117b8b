"""Augmentation of all that a discriminator sees, real and fake alike, by keyed draws.

Warps are products with matrices of interpolation weights: deterministic on every device and twice
differentiable, which gradient penalties need. Every function takes x (B, C, H, W) in [-1, 1].
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from safelight.types import Draw


def augmented(
    kind: Literal["none", "diffaugment", "ada"], x: Tensor, draw: Draw, name: str, p: Tensor | None
) -> Tensor:
    """Images by the augmentation of that kind, in float32. p: () of "ada"."""
    if kind == "diffaugment":
        return differentiable(x.float(), draw, name)
    if kind == "ada":
        assert p is not None
        return adaptive(x.float(), draw, name, p)
    return x


def adapted(p: Tensor, sign: Tensor, target: float, kimg: float) -> Tensor:
    """ADA's p after a step: up while E[sign D(x)] is above its target, and down otherwise.

    sign: (B,) of the global batch. kimg: thousand images in which p can go from 0 to 1.
    """
    return (p + len(sign) / (kimg * 1000) * (sign.mean() - target).sign()).clamp(0, 1)


def differentiable(x: Tensor, draw: Draw, name: str) -> Tensor:
    """DiffAugment (Zhao 2020): colour, a shift by up to 1/8 of the side, a hole of half the side."""
    brightness, saturation, contrast = (
        draw.uniform(f"{name} colour", 3)[:, i, None, None, None] for i in range(3)
    )
    x = x + brightness - 0.5
    x = _from_mean(x, 2 * saturation, dim=(1,))
    x = _from_mean(x, contrast + 0.5, dim=(1, 2, 3))
    height, width = x.shape[2:]
    shift = draw.uniform(f"{name} shift", 2) * 2 - 1
    x = warp(x, (shift[:, 0] * height / 8).round(), (shift[:, 1] * width / 8).round())
    centre = draw.uniform(f"{name} hole", 2)
    rows = (torch.arange(height, device=x.device) - centre[:, :1] * height).abs() < height / 4
    columns = (torch.arange(width, device=x.device) - centre[:, 1:] * width).abs() < width / 4
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :])


def adaptive(x: Tensor, draw: Draw, name: str, p: Tensor) -> Tensor:
    """The transformations of ADA (Karras 2020, appendix B), each with probability p.

    Scales are log-normal (0.2 log 2 standard deviation), shifts normal (1/8 of the side), and so on as
    there; colour images also turn about the luma axis. Rotation by other than quarter turns is left out: it
    is no product of two matrices. p: () in [0, 1], constant.
    """
    coin = draw.uniform(f"{name} coins", 11) < p
    normal, uniform = draw.normal(f"{name} normal", 8), draw.uniform(f"{name} uniform", 4)

    def pick(number: int, value: Tensor, otherwise: float) -> Tensor:
        return torch.where(coin[:, number], value, otherwise)

    height, width = x.shape[2:]
    x = torch.where((coin[:, 0] & (uniform[:, 0] < 0.5))[:, None, None, None], x.flip(3), x)
    if height == width:
        turns = torch.where(coin[:, 1], (uniform[:, 1] * 4).long(), 0)
        for quarter in (1, 2, 3):
            x = torch.where((turns == quarter)[:, None, None, None], x.rot90(quarter, (2, 3)), x)
    shift_y = pick(2, ((uniform[:, 2] * 2 - 1) * height / 8).round(), 0.0) + pick(
        3, normal[:, 0] * height / 8, 0.0
    )
    shift_x = pick(2, ((uniform[:, 3] * 2 - 1) * width / 8).round(), 0.0) + pick(
        3, normal[:, 1] * width / 8, 0.0
    )
    scale = pick(4, torch.exp2(0.2 * normal[:, 2]), 1.0)
    stretch = pick(5, torch.exp2(0.2 * normal[:, 3]), 1.0)
    x = warp(x, shift_y, shift_x, scale * stretch, scale / stretch)
    x = x + pick(6, 0.2 * normal[:, 4], 0.0)[:, None, None, None]
    x = x * pick(7, torch.exp2(0.5 * normal[:, 5]), 1.0)[:, None, None, None]
    if x.shape[1] == 3:
        sign = pick(8, 1 - 2 * (normal[:, 6] > 0).float(), 1.0)
        x = colour(
            x, sign, pick(9, (uniform[:, 0] * 2 - 1) * math.pi, 0.0), pick(10, torch.exp2(normal[:, 7]), 1.0)
        )
    return x


def warp(
    x: Tensor, shift_y: Tensor, shift_x: Tensor, scale_y: Tensor | None = None, scale_x: Tensor | None = None
) -> Tensor:
    """Images shifted (pixels) and scaled about their centre, each (B,), reflected at the edges."""
    rows = _interpolation(x.shape[2], shift_y, scale_y).to(x.dtype)
    columns = _interpolation(x.shape[3], shift_x, scale_x).to(x.dtype)
    return rows[:, None] @ x @ columns[:, None].mT


def colour(x: Tensor, sign: Tensor, angle: Tensor, saturation: Tensor) -> Tensor:
    """RGB images: luma times `sign`, hue turned by `angle` (radians), chroma scaled; each (B,)."""
    luma = torch.full((3, 3), 1 / 3, device=x.device)  # onto the grey axis (1, 1, 1) / √3
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=x.device) / math.sqrt(3)
    chroma = torch.eye(3, device=x.device) - luma
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    matrix = sign[:, None, None] * luma + saturation[:, None, None] * (
        cos * chroma + sin * cross
    )  # Rodrigues
    return (matrix.to(x.dtype) @ x.flatten(2)).view_as(x)


def _interpolation(size: int, shift: Tensor, scale: Tensor | None) -> Tensor:
    """(B, size, size) interpolation weights: output i reads (i - centre - shift) / scale + centre."""
    pixel = torch.arange(size, device=shift.device, dtype=torch.float32)
    centre = (size - 1) / 2
    source = pixel - centre - shift[:, None]
    source = (source if scale is None else source / scale[:, None]) + centre
    period = max(2 * (size - 1), 1)
    source = source.remainder(period)
    source = torch.minimum(source, period - source)  # reflected, the edge pixel not repeated
    return (1 - (source[:, :, None] - pixel).abs()).clamp(min=0)


def _from_mean(x: Tensor, factor: Tensor, dim: tuple[int, ...]) -> Tensor:
    mean = x.mean(dim, keepdim=True)
    return mean + factor * (x - mean)
