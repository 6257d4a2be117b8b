"""Specimens: samples that can be named. "16500.28" is draw 28 of step 16500; "16500.red-apple-1" was found

by a search or a projection at that step, and its latent is kept with the run.

The id and the seed of the run decide latent, conditions and whatever noise sampling takes, on any machine
and at any later time: all are keyed. Which weights a specimen is drawn with is another matter: those of its
own step make the specimen, those of other steps its film.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from pydantic import BaseModel
from torch import Tensor

from safelight.config import UserError
from safelight.draw import RowDraw
from safelight.types import Batch, DataSpec, Draw, Method, Nets, Values

PHASE = "specimen"  # of the keyed draws
EXAMPLES = 256  # real items of which one lends its conditions


@dataclass(frozen=True, order=True)
class Specimen:
    """A name of a sample: the step it was found at, the number of its draw there."""

    step: int
    draw: int
    name: str = ""  # of one whose latent was found, not drawn

    def __str__(self) -> str:
        return f"{self.step}.{self.name or self.draw}"


def specimen(text: str) -> Specimen:
    """The specimen of an id. Raises UserError."""
    found = re.fullmatch(r"(\d{1,12})\.(?:(\d{1,9})|([a-z][a-z0-9-]{0,99}))", text)
    if found is None:
        raise UserError(f"specimen {text!r}: expected STEP.DRAW, such as 16500.28")
    return Specimen(int(found[1]), int(found[2] or 0), found[3] or "")


@dataclass(frozen=True, eq=False)
class Start:
    """What one image is made from. Tensors have one row."""

    latent: Tensor  # (1, ...)
    given: Values  # by condition (1, ...)
    present: Tensor  # (1,) bool
    draw: Draw  # for samplers that add noise on their way
    styled: bool = False  # the latent is a style, see types.Styled: ways between are straight


def start_of(
    one: Specimen,
    method: Method,
    spec: DataSpec,
    seed: int,
    device: torch.device,
    examples: Callable[[int], Batch],
) -> Start:
    """What a specimen is made from.

    method: that has built its networks. seed: of the run. examples: as many real items as there are, up to a
    number; called only where the data have other conditions than classes. Raises UserError where there are
    none.
    """
    draw = RowDraw(seed, one.step, PHASE, range(one.draw, one.draw + 1), device)
    latent = method.latent(draw)
    given: dict[str, Tensor] = {}
    if set(spec.conditions) == {"label"}:
        given = {"label": draw.integers("label", spec.classes)}
    elif spec.conditions:
        real = examples(EXAMPLES)
        if not len(real.present):
            raise UserError(f"specimen {one}: no real item lends it its conditions")
        row = draw.integers("item", len(real.present))
        given = {name: real.given[name][row] for name in spec.conditions}
    return Start(latent, given, torch.full((1,), bool(given), device=device), draw)


@torch.no_grad()
def develop(
    start: Start,
    method: Method,
    nets: Nets,
    how: BaseModel,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Tensor:
    """The image of a start, (1, C, H, W) in model space.

    Alone: in a batch the last bits of an image depend on its company, and a name should mean one picture.
    """
    with autocast():
        return method.sample(nets, start.latent, start.given, start.present, start.draw, how).float()
