"""Traversals as they are asked for: sliders, principal components or directions, also from a specimen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from safelight.config import UserError
from safelight.explore import directions, traverse
from safelight.explore.specimens import parse_specimen, start_of
from safelight.functional import sliders
from safelight.loading.model import Model
from safelight.randomness import RowDraw
from safelight.types import Panel

ENCODED = 1000  # real images whose latents have components


@dataclass(frozen=True)
class GridRequest:
    """What is asked for: one of attributes, components and directions."""

    attributes: Sequence[str]
    components: Sequence[int]
    directions: Sequence[str]
    rows: int
    columns: int
    seed: int  # of the latents
    specimen: str | None = None  # whose latent a direction starts from


def travelled(model: Model, request: GridRequest) -> Panel:
    """The figure. Raises UserError for a slider, a component, a direction, a specimen that is not there."""
    if sum(map(bool, (request.attributes, request.components, request.directions))) != 1:
        raise UserError(
            "traverse: state either attributes, such as hair=0..1, or components, such as 1, "
            "or directions, such as pca:1"
        )
    if request.specimen and not request.directions:
        raise UserError(f"specimen {request.specimen}: only directions start from one, such as pca:1")
    moved = [sliders.read(text, model.spec) for text in request.attributes]
    requests = [directions.read(text) for text in request.directions]
    if request.specimen:
        start = start_of(parse_specimen(request.specimen), model)
        return directions.along(
            model, requests, request.columns, start.given, start.present, start.draw, start.latent
        )
    real = model.data.examples(max(request.rows, ENCODED if request.components else 0))
    if not len(real.x):  # of data without conditions, every item will do
        real = model.data.stream().held_out(ENCODED)
    rows = 1 if len(requests) > 1 else request.rows
    items = torch.arange(rows, device=real.present.device) % len(real.x)
    given, present = {name: value[items] for name, value in real.given.items()}, real.present[items]
    if moved:
        return traverse.along_conditions(model, moved, request.columns, given, present, request.seed)
    if requests:
        draw = RowDraw(request.seed, 0, "sample", range(rows), present.device)
        return directions.along(model, requests, request.columns, given, present, draw)
    axes = traverse.components(traverse.encoded(model, real, request.seed))
    return traverse.along_components(
        model, axes, request.components, request.columns, given, present, request.seed
    )
