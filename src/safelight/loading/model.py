"""What an export begins with: a run's networks and all that is known of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from safelight.data.space import Space
from safelight.engine.state import State
from safelight.recipe import Recipe
from safelight.store.directory import RunDirectory
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


def evaluated(method: Method, state: State) -> dict[str, nn.Module]:
    """The networks that samples use: averages and frozen ones, all in evaluation mode."""
    return {**{name: state.nets[name] for name in method.frozen}, **state.averages.networks}


@dataclass(frozen=True)
class Product:
    """Weights that a recipe takes from elsewhere."""

    reference: str  # as the recipe states it
    run: str | None  # name of the run they come from; None where they are pretrained
    path: str  # of the run, or of the file or folder of pretrained weights
    step: int | None  # of the run's checkpoint
    digest: str  # of the checkpoint, or of the files

    @property
    def directory(self) -> RunDirectory:
        """The run they come from."""
        assert self.run is not None
        return RunDirectory(Path(self.path))
