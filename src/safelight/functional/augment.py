"""Augmentation of all that a discriminator sees, real and fake alike, by keyed draws.

Warps are products with matrices of interpolation weights: deterministic on every device and twice
differentiable, which gradient penalties need. Every function takes x (B, C, H, W) in [-1, 1].
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from safelight.constants import constant, vector
from safelight.types import Draw

SYM6 = (  # Daubechies' least asymmetric wavelet of six vanishing moments, its lowpass filter
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
DELAY = sum(tap * weight for tap, weight in enumerate(SYM6)) / sum(SYM6)  # of a straight line by the filter


def augmented(
    kind: Literal["none", "diffaugment", "ada"],
    x: Tensor,
    draw: Draw,
    name: str,
    p: Tensor | None,
    alpha: bool = False,
) -> Tensor:
    """Images by the augmentation of that kind, in float32. p: () of "ada"."""
    if kind == "diffaugment":
        return differentiable(x.float(), draw, name, alpha)
    if kind == "ada":
        assert p is not None
        return adaptive(x.float(), draw, name, p, alpha)
    return x


def adapted(p: Tensor, sign: Tensor, target: float, kimg: float) -> Tensor:
    """ADA's p after a step: up while E[sign D(x)] is above its target, and down otherwise.

    sign: (B,) of the global batch. kimg: thousand images in which p can go from 0 to 1.
    """
    return (p + len(sign) / (kimg * 1000) * (sign.mean() - target).sign()).clamp(0, 1)


def differentiable(x: Tensor, draw: Draw, name: str, alpha: bool = False) -> Tensor:
    """DiffAugment (Zhao 2020): colour, a shift by up to 1/8 of the side, a hole of half of it; 0 there."""
    height, width = x.shape[2:]
    do = differentiable_parameters(draw, name, height, width)
    x, rest = (x[:, :3], x[:, 3:]) if alpha else (x, None)  # alpha is not coloured
    x = x + _wide(do["brightness"])
    x = _from_mean(x, _wide(do["saturation"]), dim=(1,))
    x = _from_mean(x, _wide(do["contrast"]), dim=(1, 2, 3))
    x = x if rest is None else torch.cat([x, rest], 1)
    x = warp(x, do["shift y"], do["shift x"], reflected=False)
    rows, columns = _within(do["hole y"], height), _within(do["hole x"], width)
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :])


def differentiable_parameters(draw: Draw, name: str, height: int, width: int) -> dict[str, Tensor]:
    """What DiffAugment does to each image, (B,), by transformation: each from a draw of its own."""
    brightness, saturation, contrast = draw.uniform(f"{name} colour", 3).unbind(1)
    do = {"brightness": brightness - 0.5, "saturation": 2 * saturation, "contrast": contrast + 0.5}
    for axis, size in (("y", height), ("x", width)):
        most, hole = _rounded(size / 8), _rounded(size / 2)
        do[f"shift {axis}"] = (draw.integers(f"{name} shift {axis}", 2 * most + 1) - most).float()
        do[f"hole {axis}"] = draw.integers(f"{name} hole {axis}", size + 1 - hole % 2)
    return do


def adaptive(x: Tensor, draw: Draw, name: str, p: Tensor, alpha: bool = False) -> Tensor:
    """The transformations of ADA (Karras 2020, appendix B, figure 8), each with probability p, in its order.

    Mirrors, quarter turns and whole shifts move pixels; scales and other shifts come after them, in one
    resampling between wavelet filters; then colour. Hue, saturation and the flip of luma are for three
    channels, quarter turns for square images. Rotations by other angles are left out: they are no product of
    two matrices. p: () in [0, 1], constant.
    """
    height, width = x.shape[2:]
    do = adaptive_parameters(draw, name, p, height, width)
    x = torch.where(_wide(do["mirror"]) > 0, x.flip(3), x)
    if height == width:
        for quarter in (1, 2, 3):
            x = torch.where(_wide(do["quarter turns"]) == quarter, x.rot90(quarter, (2, 3)), x)
    axes = []
    for axis, size, stretch in (("y", height, 1 / do["stretch"]), ("x", width, do["stretch"])):
        scale = do["scale"] * stretch
        shift = do[f"shift {axis}"] * scale + do[f"fraction {axis}"]  # the whole shift is scaled, too
        axes.append(filtered(size, shift, scale).to(x.dtype))
    x = axes[0][:, None] @ x @ axes[1][:, None].mT
    x, rest = (x[:, :3], x[:, 3:]) if alpha else (x, None)  # alpha is not coloured
    x = (x + _wide(do["brightness"])) * _wide(do["contrast"])
    x = colour(x, do["luma"], do["hue"], do["saturation"]) if x.shape[1] == 3 else x
    return x if rest is None else torch.cat([x, rest], 1)


def adaptive_parameters(draw: Draw, name: str, p: Tensor, height: int, width: int) -> dict[str, Tensor]:
    """What ADA does to each image, (B,), by transformation: each from a coin and a draw of its own.

    Scales are log-normal (0.2 log 2 standard deviation), fractional shifts normal (1/8 of the side), and so
    on as in the paper. Where a coin says no, the value is the one that changes nothing.
    """
    coin = draw.uniform(f"{name} coins", 11) < p
    u, n = draw.uniform(f"{name} uniform", 6), draw.normal(f"{name} normal", 7)
    done = {  # by transformation: its coin, its value, the value that changes nothing
        "mirror": (0, (u[:, 0] < 0.5).float(), 0),
        "quarter turns": (1, (4 * u[:, 1]).floor(), 0),
        "shift y": (2, ((2 * u[:, 2] - 1) * height / 8).round(), 0),
        "shift x": (2, ((2 * u[:, 3] - 1) * width / 8).round(), 0),
        "scale": (3, torch.exp2(0.2 * n[:, 0]), 1),
        "stretch": (4, torch.exp2(0.2 * n[:, 1]), 1),
        "fraction y": (5, n[:, 2] * height / 8, 0),
        "fraction x": (5, n[:, 3] * width / 8, 0),
        "brightness": (6, 0.2 * n[:, 4], 0),
        "contrast": (7, torch.exp2(0.5 * n[:, 5]), 1),
        "luma": (8, 1 - 2 * (u[:, 4] < 0.5).float(), 1),
        "hue": (9, (2 * u[:, 5] - 1) * math.pi, 0),
        "saturation": (10, torch.exp2(n[:, 6]), 1),
    }
    return {key: torch.where(coin[:, number], value, still) for key, (number, value, still) in done.items()}


def warp(
    x: Tensor, shift_y: Tensor, shift_x: Tensor, scale_y: Tensor | None = None, scale_x: Tensor | None = None,
    reflected: bool = True,
) -> Tensor:  # fmt: skip
    """Images shifted (pixels) and scaled about their centre, each (B,); reflected or 0 beyond the edges."""
    rows = _interpolation(x.shape[2], shift_y, scale_y, reflected).to(x.dtype)
    columns = _interpolation(x.shape[3], shift_x, scale_x, reflected).to(x.dtype)
    return rows[:, None] @ x @ columns[:, None].mT


def filtered(size: int, shift: Tensor, scale: Tensor) -> Tensor:
    """(B, size, size): what `warp` does along one axis, reflected, but without aliasing (Karras 2020).

    Doubled by the wavelet filter, interpolated linearly there, halved by the same filter. Nothing but that is
    lost: no shift and scale 1 is the identity, since shifts of the filter by 2 are orthonormal, and straight
    lines stay straight.
    """
    up, down = (constant(_doubling, size, part, device=shift.device) for part in (0, 1))
    period, centre = len(up), (size - 1) / 2
    place = (torch.arange(down.shape[1], device=shift.device) - DELAY) / 2  # of the fine pixels
    source = (place - centre - shift[:, None]) / scale[:, None] + centre
    apart = (2 * source[:, :, None] + DELAY - torch.arange(period, device=shift.device)).remainder(period)
    weights = (1 - torch.minimum(apart, period - apart)).clamp(min=0)
    return down @ weights @ up


def _doubling(size: int, part: int) -> Tensor:
    """The filter as two matrices: (period, size) doubles reflected pixels, (size, 2 size + 10) halves them.

    Fine pixel k is at (k - DELAY) / 2, in pixels.
    """
    period = max(2 * (size - 1), 1)
    up, down = torch.zeros(2 * period, size), torch.zeros(size, 2 * size + len(SYM6) - 2)
    for tap, weight in enumerate(SYM6):
        for k in range(tap % 2, 2 * period, 2):
            j = (k - tap) // 2 % period
            up[k, min(j, period - j)] += math.sqrt(2) * weight
        for i in range(size):
            down[i, 2 * i + tap] = weight / math.sqrt(2)
    return (up, down)[part]


def colour(x: Tensor, sign: Tensor, angle: Tensor, saturation: Tensor) -> Tensor:
    """RGB images: luma times `sign`, hue turned by `angle` (radians), chroma scaled; each (B,)."""
    luma = torch.full((3, 3), 1 / 3, device=x.device)  # onto the grey axis (1, 1, 1) / √3
    cross = constant(vector, 0, -1, 1, 1, 0, -1, -1, 1, 0, device=x.device).view(3, 3) / math.sqrt(3)
    chroma = torch.eye(3, device=x.device) - luma
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    turned = cos * chroma + sin * cross  # Rodrigues
    matrix = sign[:, None, None] * luma + saturation[:, None, None] * turned
    return (matrix.to(x.dtype) @ x.flatten(2)).view_as(x)


def _interpolation(size: int, shift: Tensor, scale: Tensor | None, reflected: bool) -> Tensor:
    """(B, size, size) interpolation weights: output i reads (i - centre - shift) / scale + centre."""
    pixel = torch.arange(size, device=shift.device, dtype=torch.float32)
    centre = (size - 1) / 2
    source = pixel - centre - shift[:, None]
    source = (source if scale is None else source / scale[:, None]) + centre
    if reflected:  # the edge pixel not repeated
        period = max(2 * (size - 1), 1)
        source = source.remainder(period)
        source = torch.minimum(source, period - source)
    return (1 - (source[:, :, None] - pixel).abs()).clamp(min=0)


def _within(centre: Tensor, size: int) -> Tensor:
    """(B, size) bool: the pixels of a hole of half the size."""
    hole = _rounded(size / 2)
    first = (centre - hole // 2)[:, None]
    pixel = torch.arange(size, device=centre.device)
    return (first <= pixel) & (pixel < first + hole)


def _rounded(value: float) -> int:
    return int(value + 0.5)


def _wide(value: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1)."""
    return value[:, None, None, None]


def _from_mean(x: Tensor, factor: Tensor, dim: tuple[int, ...]) -> Tensor:
    mean = x.mean(dim, keepdim=True)
    return mean + factor * (x - mean)
