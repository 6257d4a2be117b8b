"""What an export begins with: a run's networks and all that is known of them."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safelight.data.space import Space
from safelight.recipes.recipe import Recipe
from safelight.session.export import shipped
from safelight.session.products import Product
from safelight.types import DataSpec, Method, Nets


@dataclass(frozen=True)
class Trained:
    """What a run has learnt, ready to be exported."""

    name: str
    step: int
    recipe: Recipe
    method: Method
    nets: Nets  # those that samples use, in evaluation mode
    spec: DataSpec  # as the networks see the data
    space: Space
    product: Product | None  # the autoencoder of its latents

    @property
    def conditions(self) -> dict[str, Any]:
        """As JSON says them."""
        return {name: asdict(own) for name, own in self.spec.conditions.items()}


def copy_shipped(name: str, folder: Path) -> None:
    """Put a file of shipped/ into an exported folder."""
    shutil.copyfile(Path(str(shipped.__file__)).parent / name, folder / name)
