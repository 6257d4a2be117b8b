"""Projecting an image into the latents of a run; what is found is kept as a specimen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from safelight.config import UserError
from safelight.data.source import Progress
from safelight.draw import RowDraw
from safelight.explore.latents import Styles
from safelight.explore.projection import Features, Projected, ball, halves, project, seen_by
from safelight.explore.specimen import Specimen
from safelight.render.sheet import sheet
from safelight.render.sheet_file import save_png
from safelight.session import found
from safelight.session.prepare import Tell
from safelight.session.specimens import keep_specimens, newest
from safelight.session.studio import Studio
from safelight.store.run import RunDirectory
from safelight.types import Batch, Encodes

FIRST = 64  # latents of which the best is begun from


@dataclass(frozen=True)
class Asked:
    """What is asked for."""

    image: Path
    steps: int = 200
    conditions: Mapping[str, str] = field(default_factory=dict)
    sample: Mapping[str, Any] = field(default_factory=dict)  # keys of [sample] that are changed
    step: int | None = None


def projected(
    directory: RunDirectory,
    asked: Asked,
    out: Path,
    tell: Tell = lambda line: None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Project, draw image | projection, keep the latent. Returns what was found out. Raises UserError."""
    if not asked.image.is_file():
        raise UserError(f"{asked.image}: there is no such file")
    step = newest(directory) if asked.step is None else asked.step
    studio = Studio(directory, step, asked.conditions, asked.sample, None, tell, progress)
    if studio.camera.space.codec is not None:
        raise UserError(f"{directory.name}: draws latents of an autoencoder, which are not projected to")
    if studio.method.latent(RowDraw(0, 0, "shape", range(1), studio.device)).ndim != 2:
        raise UserError(f"{directory.name}: its latents are pictures, not vectors as of a GAN or a VAE")
    for network in studio.nets.values():
        network.requires_grad_(False)
    target = studio.read_image(asked.image) * 2 - 1
    candidates, latents, inside = _room(studio, target)
    made = project(
        lambda x: studio.make(latents(x)).x, candidates, target, _features(studio), asked.steps, inside,
        progress,
    )  # fmt: skip
    one = Specimen(studio.reached.step, 0, name_of(asked))
    told = _told(asked, made)
    found.write(directory, one, studio.start(latents(made.x)), None, {"projection": told})
    keep_specimens(directory, [str(one)], tell)
    wanted = studio.camera.space.to_pixels(target)[0]
    images = [wanted, *(studio.picture(latents(x)) for x in (made.first, made.x))]
    save_png(sheet(np.stack(images), 3, frames=("image", "begun from", "projection")), out)
    return {"specimen": str(one), "step": studio.reached.step, "out": str(out), **told}


def name_of(asked: Asked) -> str:
    """A specimen's name from the file's and a digest of all that is asked: "My cat.png" is my-cat-1f3a9c."""
    plain = re.sub(r"[^a-z0-9]+", "-", asked.image.stem.lower()).strip("-")[:60]
    named = plain if plain[:1].isalpha() else f"image-{plain}".strip("-")
    words = json.dumps([asked.steps, dict(asked.conditions), dict(asked.sample)], sort_keys=True)
    return f"{named}-{sha256(asked.image.read_bytes() + words.encode()).hexdigest()[:6]}"


def _told(asked: Asked, made: Projected) -> dict[str, Any]:
    return {
        "image": str(asked.image),
        "steps": asked.steps,
        "distance": {"first": made.distances[0], "last": made.distances[-1]},
        "pixel mse": {"first": made.pixels[0], "last": made.pixels[1]},  # of pixels in [-1, 1]
    }


def _room(
    studio: Studio, target: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Points to begin from (n, d), the latents of points, the nearest allowed points.

    Styles are moved layer by layer (Abdal 2019), in deviations from their mean, which is the first point; an
    encoder gives the only point.
    """
    draw, space = RowDraw(0, 0, "projection", range(FIRST), studio.device), studio.space
    if isinstance(space, Styles):
        mean, spread, layers = space.mean, space.spread, space.layers
        points = (studio.styles(draw) - mean) / spread
        points = torch.cat([torch.zeros_like(points[:1]), points]).repeat(1, layers)
        return points, lambda x: mean + spread * x.unflatten(1, (layers, -1)), lambda x: x
    if isinstance(studio.method, Encodes):
        batch = Batch(target, studio.given, studio.present, range(1), 1)
        with torch.no_grad(), studio.reached.autocast():
            own = studio.method.encode(studio.nets, batch, RowDraw(0, 0, "encode", range(1), studio.device))
        return own.float(), lambda x: x, ball
    return studio.method.latent(draw), lambda x: x, ball


def _features(studio: Studio) -> Features:
    """Of the run's own discriminator or encoder; of a run with neither, pixels at two scales."""
    if isinstance(studio.method, Encodes):
        network: nn.Module | None = studio.nets["encoder"]
    else:
        network = studio.network("discriminator") if "discriminator" in studio.method.roles else None
    if network is None:
        return halves

    def look(x: Tensor) -> object:
        rows = len(x)
        given = {name: value.expand(rows, *value.shape[1:]) for name, value in studio.given.items()}
        return network(x, given, studio.present.expand(rows))

    return seen_by(look, network)
