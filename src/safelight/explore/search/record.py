"""What a search has found so far: the best, how it came there, what no other beats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.explore.search.fronts import front, order
from safelight.explore.search.optimisers import Optimiser, Scores

ALIKE = 0.9  # cosine above which two points of the best are one
FRONT = 256  # points of a front that are kept, those that stand apart
# points (n, d), whether gradients are wanted -> scores (n, k), and gradients (n, k, d) where asked for
Evaluate = Callable[[Tensor, bool], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Standard:
    """Makes one number of several objectives: the sum of how many deviations each is above usual samples.

    One objective is left as it is.
    """

    mean: Tensor  # (k,) of samples of the generator
    deviation: Tensor  # (k,)

    @classmethod
    def of(cls, scores: Tensor) -> Standard:
        """Of the scores (n, k) of samples."""
        return cls(scores.mean(0), scores.std(0).clamp(min=1e-6))

    def total(self, scores: Tensor) -> Tensor:
        """(n,) of scores (n, k)."""
        if scores.shape[1] == 1:
            return scores[:, 0]
        return ((scores - self.mean) / self.deviation).sum(1)

    def gradient(self, gradients: Tensor) -> Tensor:
        """(n, d) of the total, of gradients (n, k, d)."""
        return gradients[:, 0] if gradients.shape[1] == 1 else (gradients / self.deviation[:, None]).sum(1)


@dataclass
class Points:
    """Some points, their scores, and when they were evaluated."""

    x: Tensor  # (n, d)
    scores: Tensor  # (n, k)
    at: Tensor  # (n,) int64, evaluations up to and with it

    @classmethod
    def none(cls, size: int, objectives: int) -> Points:
        return cls(torch.zeros(0, size), torch.zeros(0, objectives), torch.zeros(0, dtype=torch.int64))

    def and_(self, other: Points) -> Points:
        """These and others."""
        return Points(
            *(
                torch.cat(pair)
                for pair in ((self.x, other.x), (self.scores, other.scores), (self.at, other.at))
            )
        )

    def at_rows(self, rows: Tensor) -> Points:
        """Some of them."""
        return Points(self.x[rows], self.scores[rows], self.at[rows])

    def __len__(self) -> int:
        return len(self.x)


@dataclass
class SearchRecord:
    """Found in so many evaluations. points: "best", of which none is like another; "trail", each better than

    all before it; "front", that no other beats in all objectives.
    """

    standard: Standard
    keep: int  # of the best
    best: Points
    trail: Points
    front: Points
    evaluations: int = 0
    generation: int = 0  # the next one

    @classmethod
    def begun(cls, standard: Standard, keep: int, size: int) -> SearchRecord:
        none = Points.none(size, len(standard.mean))
        return cls(standard, keep, none, none, none)

    @property
    def score(self) -> float:
        """The best total so far."""
        return float(self.standard.total(self.trail.scores[-1:]))

    def add(self, x: Tensor, scores: Tensor) -> Tensor:
        """A generation's points (n, d) and scores (n, k). Returns their totals (n,)."""
        count = len(x)
        new = Points(x, scores, self.evaluations + 1 + torch.arange(count))
        totals = self.standard.total(scores)
        top = totals.argsort(descending=True, stable=True)
        self.best = distinct(self.best.and_(new.at_rows(top[: 4 * self.keep])), self.standard, self.keep)
        if not len(self.trail) or float(totals.max()) > self.score:
            self.trail = self.trail.and_(new.at_rows(top[:1]))
        if scores.shape[1] > 1:
            joined = self.front.and_(new)
            rows = front(joined.scores)
            if len(rows) > FRONT:
                rows = rows[order(joined.scores[rows])[:FRONT]].sort().values
            self.front = joined.at_rows(rows)
        self.evaluations += count
        self.generation += 1
        return totals

    def state(self) -> dict[str, Tensor]:
        """All of it, as tensors."""
        held = {"best": self.best, "trail": self.trail, "front": self.front}
        tensors = {f"{name}.{part}": getattr(points, part) for name, points in held.items()
                   for part in ("x", "scores", "at")}  # fmt: skip
        return {**tensors, "count": torch.tensor([self.evaluations, self.generation])}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`."""
        self.best, self.trail, self.front = (
            Points(*(state[f"{name}.{part}"] for part in ("x", "scores", "at")))
            for name in ("best", "trail", "front")
        )
        self.evaluations, self.generation = state["count"].tolist()


def distinct(points: Points, standard: Standard, keep: int) -> Points:
    """The best few, of which none is like a better one."""
    taken: list[int] = []
    unit = torch.nn.functional.normalize(points.x, dim=1)
    for row in standard.total(points.scores).argsort(descending=True, stable=True).tolist():
        if len(taken) < keep and not any(float(unit[row] @ unit[other]) > ALIKE for other in taken):
            taken.append(row)
    return points.at_rows(torch.tensor(taken, dtype=torch.int64))


def generation(optimiser: Optimiser, record: SearchRecord, evaluate: Evaluate) -> tuple[Tensor, Tensor]:
    """One generation: asked for, evaluated, told, recorded. Returns scores (n, k) and totals (n,)."""
    x = optimiser.ask()
    scores, gradients = evaluate(x, optimiser.needs_gradient)
    totals = record.add(x, scores)
    gradient = None if gradients is None else record.standard.gradient(gradients)
    optimiser.tell(Scores(scores, totals, gradient))
    return scores, totals
