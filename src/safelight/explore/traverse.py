"""Traversals: grids of one latent a row, along a condition, or along a principal direction of the latents.

The principal directions are of the latents of real images, as the method encodes them: what varies most
from image to image comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.config import UserError
from safelight.functional import sliders
from safelight.functional.sliders import Slider
from safelight.loading.model import Model
from safelight.randomness import RowDraw
from safelight.types import Batch, Encodes, Panel, Values

REACH = 2.5  # standard deviations to either side of a principal direction
CHUNK = 100  # images at once


def along_conditions(
    model: Model, moved: Sequence[Slider], steps: int, given: Values, present: Tensor, seed: int
) -> Panel:
    """One latent and one row of `given` a row; a column is a place on the sliders, every combination of them.

    given, present: (rows, ...). steps: places on a slider; a class has one for each.
    """
    rows = RowDraw(seed, 0, "sample", range(len(present)), present.device)
    latents = model.method.latent(rows)
    columns = sliders.places(moved, steps if len(moved) > 1 else moved[0].steps(steps))
    images = [
        model.sample(latents, sliders.moved(given, model.spec, place), present, rows) for place in columns
    ]
    return Panel(torch.stack(images, dim=1), columns=sliders.labels(moved, columns, model.spec))


@dataclass(frozen=True)
class Components:
    """Principal directions of latents, the one that varies most first."""

    mean: Tensor  # (D,)
    directions: Tensor  # (k, D)
    deviations: Tensor  # (k,)
    shares: Tensor  # (k,) of all variance
    shape: tuple[int, ...]  # of a latent


def components(latents: Tensor) -> Components:
    """Of latents (n, ...). Every direction's largest entry is positive, so that its sign is settled.

    On the CPU, in float64, wherever the latents are.
    """
    flat = latents.cpu().double().flatten(1)
    mean = flat.mean(0)
    _, singular, directions = torch.linalg.svd(flat - mean, full_matrices=False)
    largest = directions.abs().argmax(1, keepdim=True)
    directions = directions * directions.gather(1, largest).sign()
    variances = singular.square() / max(len(flat) - 1, 1)
    shares = variances / variances.sum().clamp(min=1e-12)
    return Components(mean, directions, variances.sqrt(), shares, tuple(latents.shape[1:]))


@torch.no_grad()
def encoded(model: Model, batch: Batch, seed: int) -> Tensor:
    """Latents of real images (n, ...). Raises UserError for a method that encodes none."""
    if not isinstance(model.method, Encodes):
        raise UserError("principal components need a method that encodes images, such as vae")
    latents, total = [], len(batch.x)
    for start in range(0, total, CHUNK):
        rows = range(start, min(start + CHUNK, total))
        part = slice(rows.start, rows.stop)
        given = {name: value[part] for name, value in batch.given.items()}
        images = Batch(batch.x[part], given, batch.present[part], rows, total)
        with model.autocast():
            latent = model.method.encode(model.nets, images, RowDraw(seed, 0, "encode", rows, batch.x.device))
        latents.append(latent.float())
    return torch.cat(latents)


def along_components(
    model: Model,
    axes: Components,
    chosen: Sequence[int],
    steps: int,
    given: Values,
    present: Tensor,
    seed: int,
) -> Panel:
    """Columns from -2.5 to 2.5 deviations along principal directions, counted from 1.

    Of one direction, a row is a latent of its own; of several, a row is a direction and all share one latent.
    given, present: (rows, ...). Raises UserError for a direction that is not there.
    """
    for number in chosen:
        if not 1 <= number <= len(axes.directions):
            raise UserError(f"component {number}: there are {len(axes.directions)}, counted from 1")
    several = len(chosen) > 1
    if several:
        given, present = (
            {name: _first(value, chosen) for name, value in given.items()},
            _first(present, chosen),
        )
    draw = RowDraw(seed, 0, "sample", range(len(present)), present.device)
    base = model.method.latent(draw).cpu().double().flatten(1)
    base = _first(base, chosen) if several else base
    index = torch.tensor([number - 1 for number in chosen])
    direction = axes.directions[index].expand(len(base), -1)
    deviation = axes.deviations[index][:, None].expand(len(base), 1)
    centred = base - axes.mean
    level = base - (centred * direction).sum(1, keepdim=True) * direction  # at the mean along the direction
    places = torch.linspace(-REACH, REACH, steps).tolist()
    images = [
        model.sample(moved.float().unflatten(1, axes.shape).to(present.device), given, present, draw)
        for moved in (level + place * deviation * direction for place in places)
    ]
    shares = axes.shares[index].tolist()
    names = [f"{number}: {share:.0%}" for number, share in zip(chosen, shares, strict=True)]
    return Panel(
        torch.stack(images, dim=1),
        rows=tuple(names) if several else (),
        columns=tuple(f"{place:+.1f} σ" for place in places),
        caption="" if several else f"Principal component {names[0]} of the variance of latents.",
    )


def _first(rows: Tensor, like: Sequence[int]) -> Tensor:
    """The first row, as often as there are others to go with."""
    return rows[:1].expand(len(like), *rows.shape[1:])
