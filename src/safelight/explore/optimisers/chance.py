"""Random search: what the others have to beat."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from safelight.explore.optimisers import Asked, Told


class Chance:
    """Fresh samples of the generator, every generation."""

    needs_gradient = False

    def __init__(self, asked: Asked) -> None:
        self.asked, self.generation = asked, 0

    def ask(self) -> Tensor:
        return self.asked.space.first(self.asked.draw(self.generation))

    def tell(self, told: Told) -> None:
        self.generation += 1

    def state(self) -> dict[str, Tensor]:
        return {"generation": torch.tensor(self.generation)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.generation = int(state["generation"])
