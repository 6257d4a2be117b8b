"""The way from one specimen to the next: latents on a great circle, conditions blended where that can be.

The mean of two independent Gaussian latents is shorter than either; on the sphere (Shoemake 1985, White 2016)
the length stays what the generator was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.explore.specimens import Specimen, Start, picture_of, start_of
from safelight.loading.model import Model
from safelight.types import Condition, Draw, Styled


@dataclass(frozen=True)
class FilmSubject:
    """What a picture is taken of: a specimen, or a place on the way from it to another one."""

    specimen: Specimen
    other: Specimen | None = None
    share: float = 0.0  # of the way


def take(model: Model, subject: FilmSubject) -> NDArray[np.uint8]:
    """The picture of a subject, (H, W, C). Raises UserError."""
    start = start_of(subject.specimen, model)
    if subject.other is not None and subject.share > 0:
        other = start_of(subject.other, model)
        if start.styled != other.styled:
            start, other = styled(start, model), styled(other, model)
        start = between(start, other, subject.share, model.spec.conditions)
    return picture_of(start, model)


@torch.no_grad()
def styled(start: Start, model: Model) -> Start:
    """A start as a style, where it is a latent of a method that has styles."""
    if start.styled or not isinstance(model.method, Styled):
        return start
    return replace(start, latent=model.method.style(model.nets, start.latent, model.how), styled=True)


@dataclass(frozen=True)
class PathPoint:
    """A frame of a walk: between stops `leg` and `leg` + 1, `share` of the way along."""

    leg: int
    share: float  # 0 to 1


def places(stops: int, frames: int) -> list[PathPoint]:
    """`frames` places at equal distances, the first at the first stop, the last at the last.

    The way from each stop to the next is as long as every other. Raises ValueError for fewer than two stops
    or frames.
    """
    if stops < 2 or frames < 2:
        raise ValueError(f"{frames} frames between {stops} stops")
    legs = stops - 1
    along = [(number * legs) / (frames - 1) for number in range(frames)]
    return [PathPoint(min(int(at), legs - 1), at - min(int(at), legs - 1)) for at in along]


def eased(share: float) -> float:
    """Slow at both stops, fast between them: half a period of a cosine."""
    return (1 - math.cos(math.pi * share)) / 2


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical interpolation of latents (b, ...), each as one vector; lengths go evenly from a's to b's."""
    flat_a, flat_b = (end.flatten(1).cpu().double() for end in (a, b))  # not every device has float64
    norm_a, norm_b = flat_a.norm(dim=1, keepdim=True), flat_b.norm(dim=1, keepdim=True)
    unit_a, unit_b = flat_a / norm_a.clamp_min(1e-12), flat_b / norm_b.clamp_min(1e-12)
    apart, along = (unit_a - unit_b).norm(dim=1, keepdim=True), (unit_a + unit_b).norm(dim=1, keepdim=True)
    angle = 2 * torch.atan2(apart, along)  # Kahan's formula: exact for small angles too
    sine = angle.sin()
    straight = sine < 1e-6  # the same direction, or the opposite one, between which there is no shortest way
    safe = torch.where(straight, torch.ones_like(sine), sine)
    weight_a = torch.where(straight, torch.full_like(sine, 1 - share), ((1 - share) * angle).sin() / safe)
    weight_b = torch.where(straight, torch.full_like(sine, share), (share * angle).sin() / safe)
    direction = weight_a * unit_a + weight_b * unit_b
    length = norm_a + (norm_b - norm_a) * share
    turned: Tensor = (direction * length).to(a).reshape(a.shape)
    return turned


def between(a: Start, b: Start, share: float, kinds: Mapping[str, Condition]) -> Start:
    """What the image `share` of the way from a to b is made from.

    Attributes are blended evenly, text features on the sphere; a class or a mask is the nearer one's, as
    between two of them there is none. A sampler's noises turn like the latent; both are styles, or neither.
    """
    nearer = a if share < 0.5 else b
    given = {}
    for name, value in nearer.given.items():
        match kinds[name].kind:
            case "attributes":
                given[name] = torch.lerp(a.given[name], b.given[name], share)
            case "text":
                given[name] = slerp(a.given[name], b.given[name], share)
            case _:
                given[name] = value
    latent = torch.lerp(a.latent, b.latent, share) if a.styled else slerp(a.latent, b.latent, share)
    return Start(latent, given, nearer.present, Between(a.draw, b.draw, share), a.styled)


@dataclass(frozen=True)
class Between:
    """The `Draw` between two: normals on the sphere, numbers of other kinds those of the nearer one."""

    a: Draw
    b: Draw
    share: float

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal float32 (b, *shape)."""
        return slerp(self.a.normal(name, *shape), self.b.normal(name, *shape), self.share)

    def uniform(self, name: str, *shape: int, host: bool = False) -> Tensor:
        """Uniform in [0, 1) float32 (b, *shape)."""
        return self._nearer.uniform(name, *shape, host=host)

    def integers(self, name: str, high: int, *shape: int) -> Tensor:
        """Uniform int64 in [0, high) (b, *shape)."""
        return self._nearer.integers(name, high, *shape)

    @property
    def _nearer(self) -> Draw:
        return self.a if self.share < 0.5 else self.b
