"""What the engine is asked to do: the sections it reads from a recipe, and the values in force at a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from pydantic import Field, model_validator

from safelight.config import Section
from safelight.engine.schedule import Optim, Weight, weight_at


class Train(Section):
    """[train]: how long, on how many images a step, from which seed, in which arithmetic."""

    steps: int | None = Field(None, ge=1, le=10**12, description="optimiser steps; or state epochs")
    epochs: float | None = Field(
        None, gt=0, le=10**9, description="passes over the training images; or state steps"
    )
    batch_size: int = Field(128, ge=1, description="images a step, over all processes and parts")
    accumulate: int = Field(1, ge=1, le=2**20, description="parts a process cuts its share of the batch into")
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    device: str = Field("auto", description='"auto", "cpu", "cuda", "cuda:1", "mps"')
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights that samples use")
    ema_lengths: tuple[float, ...] = Field(
        (0.05, 0.10), description="relative lengths of the power-function averages; [] keeps none"
    )

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("state either steps or epochs, for example steps = 2000")
        if any(not 0 < length < 0.28 for length in self.ema_lengths):
            raise ValueError(f"ema_lengths {list(self.ema_lengths)} must lie between 0 and 0.28")
        return self

    def steps_for(self, images: int) -> int:
        """Planned steps on a training set of `images` images."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * images / self.batch_size))


@dataclass(frozen=True)
class Plan:
    """A resolved recipe as the engine sees it; an intervention makes a new one."""

    steps: int
    train: Train
    optim: Mapping[str, Optim]  # by network
    weights: Mapping[str, Weight]  # by loss component
    epoch: Fraction = Fraction(1)  # steps of one

    def weights_at(self, step: int) -> dict[str, float]:
        """The weight of every loss component at a step."""
        return {name: weight_at(weight, step) for name, weight in self.weights.items()}
