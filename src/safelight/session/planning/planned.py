"""The plan of a recipe: what was measured or estimated, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from safelight.engine.precision import Execution
from safelight.session.forecast import Forecast
from safelight.session.planning.measure import Cost

How = Literal["measured", "estimated"]


@dataclass(frozen=True)
class Memory:
    """Bytes while so many images are trained on at once: of the process on a CPU, of tensors elsewhere."""

    rows: int
    bytes: int
    how: How


@dataclass(frozen=True)
class Planned:
    """The plan of a recipe."""

    recipe: str
    device: str
    execution: Execution
    images: int
    steps: int
    batch_size: int
    accumulate: int
    parameters: Mapping[str, int]
    operations: float  # of a step
    cost: Cost  # of a step
    cost_how: How
    watching: float  # seconds of all sheets together
    memory: Sequence[Memory]
    available: int  # bytes
    fits: int  # most images at once
    disk: Forecast
    notes: Sequence[str]

    @property
    def hours(self) -> float:
        """Of training, sheets included."""
        return (self.cost.seconds * self.steps + self.watching) / 3600

    @property
    def suggested(self) -> int | None:
        """The fewest parts of a batch that fit; None where not even single images do."""
        parts = (one for one in range(1, self.batch_size + 1) if self.batch_size % one == 0)
        return next((one for one in parts if self.batch_size // one <= self.fits), None)

    @property
    def needed(self) -> Memory:
        """At the recipe's own batch size and accumulation."""
        return next(one for one in self.memory if one.rows == self.batch_size // self.accumulate)

    def plain(self) -> dict[str, Any]:
        """In plain values."""
        return {
            "recipe": self.recipe,
            "device": self.device,
            **asdict(self.execution),
            "images": self.images,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "parameters": dict(self.parameters),
            "operations_a_step": self.operations,
            "seconds_a_step": self.cost.seconds,
            "processor_seconds_a_step": self.cost.processor,
            "seconds_how": self.cost_how,
            "seconds_a_kimg": self.cost.seconds / self.batch_size * 1000,
            "hours": self.hours,
            "memory": [asdict(one) for one in self.memory],
            "memory_needed": self.needed.bytes,
            "memory_available": self.available,
            "rows_that_fit": self.fits,
            "accumulate_that_fits": self.suggested,
            "disk": {**asdict(self.disk), "total": self.disk.total},
            "notes": list(self.notes),
        }
