"""How a generator of styles is driven: latents to a style for each layer, mixed or led to their mean.

A generator has mapping(z) -> w (b, latent) and synthesis.styles, the number of styles an image takes
(StyleGAN2; Karras 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from safelight.randomness import RowDraw
from safelight.types import Draw

MEANS = 2048  # latents whose mean style truncation leads to


def styles(generator: nn.Module, z: Tensor) -> Tensor:
    """The style of each latent (b, latent) for every layer, (b, styles, latent)."""
    w: Tensor = generator.mapping(z)  # type: ignore[operator]
    return w[:, None].expand(-1, _count(generator), -1)


def fresh(generator: nn.Module, latent: int, share: float, draw: Draw) -> Tensor:
    """Styles of fresh latents; of that share of them the later layers take another's, from a drawn one on."""
    w = styles(generator, draw.normal("z", latent))
    if share:
        count = _count(generator)
        other = styles(generator, draw.normal("other z", latent))
        cut = torch.where(draw.uniform("mixing") < share, 1 + draw.integers("cut", count - 1), count)
        layer = torch.arange(count, device=w.device)
        w = torch.where((layer < cut[:, None])[:, :, None], w, other)
    return w


def truncated(generator: nn.Module, z: Tensor, truncation: float) -> Tensor:
    """w̄ + truncation (w - w̄), w̄ the mean style of many latents."""
    w = styles(generator, z)
    if truncation == 1:
        return w
    many = RowDraw(0, 0, "mean style", range(MEANS), z.device).normal("z", z.shape[1])
    mean = styles(generator, many).mean(0)
    return mean + truncation * (w - mean)


def path_length(images: Tensor, w: Tensor, draw: Draw) -> Tensor:
    """|Jᵀ y| (b,), J of the images by their styles, y noise of variance 1 / pixels; root mean over layers."""
    y = draw.normal("y", *images.shape[1:]) / (images.shape[2] * images.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((images * y).sum(), w, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def _count(generator: nn.Module) -> int:
    return int(generator.synthesis.styles)  # type: ignore[arg-type, union-attr]
