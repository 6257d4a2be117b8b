"""The latent whose image is nearest a given one, by gradient (after Karras 2020, appendix D).

    distance = pixels / pixels₀ + features / features₀      each in units of its mean over the first latents
    x ← Adam on the distance from the best of them, its rate led to 0 along a cosine

The generator stands still, and the best point on the way is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.contrast import distance
from safelight.data.source import Progress

RATE = 0.05  # of Adam, in deviations of a latent

Features = Callable[[Tensor], list[Tensor]]  # images (b, C, H, W) -> feature maps (b, c, h, w)


@dataclass(frozen=True)
class Projected:
    """Where a projection ended."""

    x: Tensor  # (1, d)
    first: Tensor  # (1, d), where it began
    distances: tuple[float, ...]  # of the best so far, the first one's first
    pixels: tuple[float, float]  # mean squared difference of pixels in [-1, 1], at first and at last


def project(
    make: Callable[[Tensor], Tensor],
    candidates: Tensor,
    target: Tensor,
    features: Features,
    steps: int,
    inside: Callable[[Tensor], Tensor] = lambda x: x,
    progress: Progress | None = None,
) -> Projected:
    """The point whose image is nearest target (1, C, H, W), from the best of candidates (n, d).

    make: points (n, d) -> images (n, C, H, W), differentiable. inside: the nearest allowed points.
    """
    with torch.no_grad():
        wanted = features(target)
        apart = _apart(make(candidates), target, features, wanted)
        unit = apart.mean(1, keepdim=True).clamp(min=1e-12)
        totals = (apart / unit).sum(0)
    at = int(totals.argmin())
    first = candidates[at : at + 1].detach().clone()
    best, trail, pixels = first, [float(totals[at])], float(apart[0, at])
    x = first.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=RATE)
    start = nearest = pixels
    for step in range(steps + 1):
        with torch.enable_grad():
            own = _apart(make(inside(x)), target, features, wanted)
            total = (own / unit).sum()
        reached = float(total.detach())
        if reached < trail[-1]:
            best, nearest = inside(x).detach().clone(), float(own[0, 0].detach())
        trail.append(min(trail[-1], reached))
        if step == steps:  # the last point is looked at, not left
            break
        (x.grad,) = torch.autograd.grad(total, x)
        adam.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        adam.step()
        if progress:
            progress("steps", step + 1, steps)
    return Projected(best, first, tuple(trail), (start, nearest))


def _apart(x: Tensor, target: Tensor, features: Features, wanted: Sequence[Tensor]) -> Tensor:
    """Distances (2, n) of images, in pixels and in features."""
    all_wanted = [maps.expand(len(x), -1, -1, -1) for maps in wanted]
    return torch.stack([(x - target).square().mean((1, 2, 3)), distance(features(x), all_wanted)])


def ball(x: Tensor) -> Tensor:
    """Gaussian points (n, d) no longer than √d + 2, past which hardly any lie: |x| deviates by 0.7."""
    longest = math.sqrt(x.shape[1]) + 2
    shrunk: Tensor = x * (longest / x.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
    return shrunk


def halves(x: Tensor) -> list[Tensor]:
    """Pixels at two scales, a constant beside the colours, so that their length is not lost."""
    both = [F.avg_pool2d(x, 2), F.avg_pool2d(x, 4)]
    return [torch.cat([own, torch.ones_like(own[:, :1])], dim=1) for own in both]


def seen_by(look: Callable[[Tensor], object], network: nn.Module) -> Features:
    """The feature maps of a network's layers without parts, those that keep a picture. look: runs it."""
    leaves = [own for own in network.modules() if not list(own.children()) and list(own.parameters())]

    def features(x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []

        def keep(layer: nn.Module, inputs: object, maps: object) -> None:
            if isinstance(maps, Tensor) and maps.ndim == 4:
                found.append(maps.float())

        hooks = [leaf.register_forward_hook(keep) for leaf in leaves]
        try:
            look(x)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    return features
