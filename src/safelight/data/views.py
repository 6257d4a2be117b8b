"""The ways an image can be turned, and its mask with it: mirrored or not, then turned by quarters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.config import UserError
from safelight.data.config import Data
from safelight.randomness import sent
from safelight.types import Draw


@dataclass(frozen=True)
class View:
    """One of the eight symmetries of a square: mirrored left to right, then turned anticlockwise."""

    mirrored: bool = False
    quarters: int = 0

    def of(self, rows: Tensor, height: int, width: int) -> Tensor:
        """Rows with these two axes seen in this way; a quarter turn exchanges the axes' lengths."""
        upright = rows.flip(width) if self.mirrored else rows
        return torch.rot90(upright, self.quarters, (height, width))

    @property
    def name(self) -> str:
        """ "straight", "mirrored", "turned-1", "mirrored-turned-2"."""
        words = ["mirrored"] * self.mirrored + [f"turned-{self.quarters}"] * bool(self.quarters)
        return "-".join(words) or "straight"


STRAIGHT = View()


@dataclass(frozen=True)
class Views:
    """The views that training draws from, each as often as the others."""

    flip: bool = False
    turns: int = 1  # 1: none; 2: half turns; 4: quarter turns

    @property
    def all(self) -> tuple[View, ...]:
        """Every view there is, the straight one first."""
        step = 4 // self.turns
        return tuple(
            View(mirrored, quarters)
            for mirrored in ((False, True) if self.flip else (False,))
            for quarters in range(0, 4, step)
        )

    def drawn(self, draw: Draw) -> Tensor:
        """A view for each row, by its place in `all`, (b,). Only where there are several."""
        mirrored = self.turns * (draw.uniform("flip") < 0.5).long() if self.flip else None
        if self.turns == 1:
            assert mirrored is not None
            return mirrored
        turned = draw.integers("turn", self.turns)
        return turned if mirrored is None else mirrored + turned


def views_of(config: Data, height: int, width: int) -> Views:
    """The views of a recipe's data. Raises UserError for quarter turns of images that are no squares."""
    if config.turn == "quarter" and height != width:
        raise UserError(f'data.turn: a quarter turn of {height}x{width} does not fit; set data.turn="half"')
    return Views(config.flip, {None: 1, "half": 2, "quarter": 4}[config.turn])


def seen(rows: Tensor, views: Sequence[View], which: Tensor, height: int = 1, width: int = 2) -> Tensor:
    """Rows (b, ...), each in its own view: which (b,) on the CPU, places in `views`."""
    result = rows
    for place, view in enumerate(views):
        if view != STRAIGHT and bool((chosen := which == place).any()):
            turned = view.of(rows, height, width)
            there = sent(chosen, rows.device).view(-1, *[1] * (rows.ndim - 1))
            result = torch.where(there, turned, result)
    return result
