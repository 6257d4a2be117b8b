"""What a run recorded while it trained: the plain data that curves and the loss analysis are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int64]
Series = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A value over training, at the steps where it was evaluated.

    A value that is not finite is a fault that happened, not a gap: a step at which nothing was evaluated
    (lazy regularisation) is left out. Raises ValueError unless the steps ascend and match the values.
    """

    name: str
    steps: Steps  # (n,) ascending
    values: Series  # (n,) raw and unweighted
    weight: float | None = None  # of a loss component: the one in force at the end
    reference: float | None = None  # a level worth knowing: an equilibrium, a floor
    note: str = ""  # what the level is, or how to read the curve
    unit: str = ""
    better: Literal["less", "more", ""] = "less"  # "" where neither is

    def __post_init__(self) -> None:
        if self.steps.shape != self.values.shape or self.steps.ndim != 1:
            raise ValueError(f"{self.name}: {self.steps.shape} steps for {self.values.shape} values")
        if np.any(np.diff(self.steps) <= 0):
            raise ValueError(f"{self.name}: steps do not ascend")

    def finite(self) -> Curve:
        """The curve without its values that are not finite."""
        keep = np.isfinite(self.values)
        return replace(self, steps=self.steps[keep], values=self.values[keep])


@dataclass(frozen=True)
class Event:
    """Something that happened to the run at a step."""

    step: int
    kind: Literal["intervention", "resume", "checkpoint", "fork", "verdict", "remedy"]
    label: str  # short: "optim.lr 5e-05 -> 1e-05"
    when: str = ""  # date and time, as it should be printed
    until: int | None = None  # of what has a span: its last step


@dataclass(frozen=True)
class History:
    """Everything recorded over the steps of a run."""

    components: tuple[Curve, ...] = ()
    learning_rates: tuple[Curve, ...] = ()
    held_out: tuple[Curve, ...] = ()  # of each noise band, or of everything
    events: tuple[Event, ...] = ()
    batch_size: int = 1  # images a step
    dataset_size: int | None = None  # images in an epoch; None where an epoch means nothing
    evaluated: tuple[Curve, ...] = ()  # distances of samples to the data, with their floors as references
