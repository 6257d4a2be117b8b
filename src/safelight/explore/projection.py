"""The latent whose image is nearest a given one, by gradient (after Karras 2020, appendix D).

    distance = pixels / pixels₀ + features / features₀      each in units of its mean over the first latents
    x ← Adam on the distance from the best of them, its rate led to 0 along a cosine

The generator stands still, and the best point on the way is the answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import UserError
from safelight.data.source import Progress
from safelight.explore import specimens
from safelight.explore.collection import keep_specimens, newest
from safelight.explore.latent_model import LatentModel
from safelight.explore.latents import Styles
from safelight.explore.specimens import Specimen
from safelight.functional.contrast import distance
from safelight.loading.model import Model
from safelight.randomness import RowDraw
from safelight.render.sheet import sheet
from safelight.render.sheet_file import save_png
from safelight.store.directory import RunDirectory
from safelight.types import Batch, Encodes, Tell

FIRST = 64  # latents of which the best is begun from
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
        target_maps = features(target)
        apart = _apart(make(candidates), target, features, target_maps)
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
            distances = _apart(make(inside(x)), target, features, target_maps)
            total = (distances / unit).sum()
        reached = float(total.detach())
        if reached < trail[-1]:
            best, nearest = inside(x).detach().clone(), float(distances[0, 0].detach())
        trail.append(min(trail[-1], reached))
        if step == steps:  # the last point is looked at, not left
            break
        (x.grad,) = torch.autograd.grad(total, x)
        adam.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        adam.step()
        if progress:
            progress("steps", step + 1, steps)
    return Projected(best, first, tuple(trail), (start, nearest))


def _apart(x: Tensor, target: Tensor, features: Features, target_maps: Sequence[Tensor]) -> Tensor:
    """Distances (2, n) of images, in pixels and in features."""
    expanded = [maps.expand(len(x), -1, -1, -1) for maps in target_maps]
    return torch.stack([(x - target).square().mean((1, 2, 3)), distance(features(x), expanded)])


def ball(x: Tensor) -> Tensor:
    """Gaussian points (n, d) no longer than √d + 2, past which hardly any lie: |x| deviates by 0.7."""
    longest = math.sqrt(x.shape[1]) + 2
    shrunk: Tensor = x * (longest / x.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
    return shrunk


def halves(x: Tensor) -> list[Tensor]:
    """Pixels at two scales, a constant beside the colours, so that their length is not lost."""
    both = [F.avg_pool2d(x, 2), F.avg_pool2d(x, 4)]
    return [torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1) for pixels in both]


def seen_by(look: Callable[[Tensor], object], network: nn.Module) -> Features:
    """The feature maps of a network's layers without parts, those that keep a picture. look: runs it."""
    leaves = [layer for layer in network.modules() if not list(layer.children()) and list(layer.parameters())]

    def features(x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []

        def keep(layer: nn.Module, inputs: object, maps: object) -> None:
            if isinstance(maps, Tensor) and maps.ndim == 4:
                outputs.append(maps.float())

        hooks = [leaf.register_forward_hook(keep) for leaf in leaves]
        try:
            look(x)
        finally:
            for hook in hooks:
                hook.remove()
        return outputs

    return features


@dataclass(frozen=True)
class ProjectionSettings:
    """What is asked for."""

    image: Path
    steps: int = 200
    conditions: Mapping[str, str] = field(default_factory=dict)
    sample: Mapping[str, Any] = field(default_factory=dict)  # keys of [sample] that are changed
    step: int | None = None


def projected(
    directory: RunDirectory,
    settings: ProjectionSettings,
    out: Path,
    tell: Tell = lambda line: None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Project, draw image | projection, keep the latent. Returns what was found out. Raises UserError."""
    if not settings.image.is_file():
        raise UserError(f"{settings.image}: there is no such file")
    step = newest(directory) if settings.step is None else settings.step
    generator = LatentModel(directory, step, settings.conditions, settings.sample, None, tell, progress)
    if why := obstacle(generator.model):
        raise UserError(f"{directory.name}: {why}")
    for network in generator.model.nets.values():
        network.requires_grad_(False)
    target = generator.read_image(settings.image) * 2 - 1
    candidates, latents, inside = _room(generator, target)
    projection = project(
        lambda x: generator.make(latents(x)).x,
        candidates,
        target,
        _features(generator),
        settings.steps,
        inside,
        progress,
    )
    specimen = Specimen(generator.model.step, 0, name_of(settings))
    facts = _facts(settings, projection)
    specimens.write(directory, specimen, generator.start(latents(projection.x)), None, {"projection": facts})
    keep_specimens(directory, [str(specimen)], tell)
    original = generator.model.space.to_pixels(target)[0]
    images = [original, *(generator.picture(latents(x)) for x in (projection.first, projection.x))]
    save_png(sheet(np.stack(images), 3, frames=("image", "begun from", "projection")), out)
    return {"specimen": str(specimen), "step": generator.model.step, "out": str(out), **facts}


def obstacle(model: Model) -> str | None:
    """Why nothing can be projected to latents of a model; None where it can."""
    if model.space.codec is not None:
        return "trains on latents of an autoencoder; projection needs a model of pixels"
    if model.method.latent(RowDraw(0, 0, "shape", range(1), model.device)).ndim != 2:
        return "its latents are images, not vectors; only a GAN or a VAE can project"
    return None


def name_of(settings: ProjectionSettings) -> str:
    """A specimen's name from the file's and a digest of all that is asked: "My cat.png" is my-cat-1f3a9c."""
    plain = re.sub(r"[^a-z0-9]+", "-", settings.image.stem.lower()).strip("-")[:60]
    named = plain if plain[:1].isalpha() else f"image-{plain}".strip("-")
    words = json.dumps([settings.steps, dict(settings.conditions), dict(settings.sample)], sort_keys=True)
    return f"{named}-{sha256(settings.image.read_bytes() + words.encode()).hexdigest()[:6]}"


def _facts(settings: ProjectionSettings, projection: Projected) -> dict[str, Any]:
    return {
        "image": str(settings.image),
        "steps": settings.steps,
        "distance": {"first": projection.distances[0], "last": projection.distances[-1]},
        "pixel mse": {"first": projection.pixels[0], "last": projection.pixels[1]},  # of pixels in [-1, 1]
    }


def _room(
    generator: LatentModel, target: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Points to begin from (n, d), the latents of points, the nearest allowed points.

    Styles are moved layer by layer (Abdal 2019), in deviations from their mean, which is the first point; an
    encoder gives the only point.
    """
    draw, space = RowDraw(0, 0, "projection", range(FIRST), generator.model.device), generator.space
    if isinstance(space, Styles):
        mean, spread, layers = space.mean, space.spread, space.layers
        points = (generator.styles(draw) - mean) / spread
        points = torch.cat([torch.zeros_like(points[:1]), points]).repeat(1, layers)
        return points, lambda x: mean + spread * x.unflatten(1, (layers, -1)), lambda x: x
    if isinstance(generator.model.method, Encodes):
        batch = Batch(target, generator.given, generator.present, range(1), 1)
        with torch.no_grad(), generator.model.autocast():
            encoded = generator.model.method.encode(
                generator.model.nets, batch, RowDraw(0, 0, "encode", range(1), generator.model.device)
            )
        return encoded.float(), lambda x: x, ball
    return generator.model.method.latent(draw), lambda x: x, ball


def _features(generator: LatentModel) -> Features:
    """Of the run's own discriminator or encoder; of a run with neither, pixels at two scales."""
    if isinstance(generator.model.method, Encodes):
        network: nn.Module | None = generator.model.nets["encoder"]
    else:
        network = (
            generator.network("discriminator") if "discriminator" in generator.model.method.roles else None
        )
    if network is None:
        return halves

    def look(x: Tensor) -> object:
        return network(x, *generator.conditions(len(x)))

    return seen_by(look, network)
