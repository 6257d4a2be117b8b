"""The text side of an encoder trained here: what a frozen text encoder makes of captions, projected."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


class TextTower(nn.Module):
    """(B, T) -> (B, features), not normalised; and the temperature of its training, as log(1 / τ)."""

    def __init__(self, text: int, width: int, depth: int, features: int) -> None:
        super().__init__()
        sizes = [text, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.project = nn.Linear(sizes[-1], features)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, h: Tensor) -> Tensor:
        for layer in self.hidden:
            h = torch.nn.functional.gelu(layer(h))
        projected: Tensor = self.project(h)
        return projected
