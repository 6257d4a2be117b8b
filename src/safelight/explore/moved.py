"""Samples moved by hand: conditions are set, and latents go along directions from where they were drawn.

x = latent(seed) + Σ by_k step_k        pca, sefa: `directions`; component: `traverse`, of encoded images
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from safelight.config import UserError
from safelight.explore import directions, traverse
from safelight.explore.conditions import conditions_of
from safelight.explore.grid import ENCODED
from safelight.loading.model import Model
from safelight.randomness import RowDraw
from safelight.render.sheet import Images
from safelight.types import Styled, Values


class Mover:
    """Remembers the directions of each step of a run, which take a while to work out."""

    def __init__(self) -> None:
        self._steps: dict[tuple[int, str], Tensor] = {}

    @torch.no_grad()
    def images(
        self,
        model: Model,
        count: int,
        seed: int,
        stated: Mapping[str, str | float],
        moved: Mapping[str, float],
    ) -> Images:
        """Images (count, H, W, C), as `sample` draws them where nothing is moved.

        stated: conditions, see `conditions_of`. moved: deviations along "pca:1", "sefa:2" or "component:1".
        Raises UserError for what the run does not have.
        """
        given, present = conditions_of(model, stated, count)
        moved = {name: by for name, by in moved.items() if by}
        if not moved:
            return model.generate(given, present, seed)
        draw = RowDraw(seed, 0, "sample", range(count), model.device)
        latent = model.method.latent(draw)
        if isinstance(model.method, Styled):
            latent = model.method.style(model.nets, latent, model.how)
        for name, by in moved.items():
            step = self._step(model, name, given, present).to(latent)
            latent = latent + by * (step[None] if latent.ndim == 3 and step.ndim == 1 else step)
        return model.space.to_pixels(model.sample(latent, given, present, draw))

    def _step(self, model: Model, name: str, given: Values, present: Tensor) -> Tensor:
        kind, _, number = name.partition(":")
        if kind != "component":
            kind = directions.read(name).kind
        place = (model.step, kind)
        if place not in self._steps:
            self._steps[place] = (
                _components(model) if kind == "component"
                else directions.suggested(model, kind, given, present).steps
            )  # fmt: skip
        steps = self._steps[place]
        if not number.isdecimal() or not 1 <= int(number) <= len(steps):
            raise UserError(f"direction {name}: there are {len(steps)}, counted from 1")
        return steps[int(number) - 1]


def _components(model: Model) -> Tensor:
    """Deviations along the principal directions of real images' latents, (k, ...) as a latent is."""
    axes = traverse.components(traverse.encoded(model, model.data.stream().held_out(ENCODED), 0))
    return (axes.directions * axes.deviations[:, None]).reshape(-1, *axes.shape)
