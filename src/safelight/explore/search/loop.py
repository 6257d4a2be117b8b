"""Searching the latents of a trained run for what scores best: resumable, counted in evaluations.

The generator stands still. A search is a folder of the run, see store/results.py: killed and begun again
with the same words it goes on, and ends with the same bits as if it had never been stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.config import UserError
from safelight.data.source import Progress
from safelight.explore.latent_model import LatentModel
from safelight.explore.search.objectives import Objective, differentiable
from safelight.explore.search.optimisers import WAYS, Candidates, Optimiser, Way, optimiser
from safelight.explore.search.record import SearchRecord, Standard, generation
from safelight.explore.search.settings import Search
from safelight.randomness import RowDraw
from safelight.store.searches import SearchDirectory

USUAL = 128  # samples of the generator, by whose scores objectives are made comparable; they are not counted
CHUNK = 100  # candidates at once: their last bits depend on it
SAVED = 2.0  # seconds between two savings of the state


class Scorer:
    """Points to scores, in chunks, with gradients where they are asked for."""

    def __init__(self, generator: LatentModel, objectives: Sequence[Objective]) -> None:
        self.generator, self.objectives = generator, objectives

    def __call__(self, x: Tensor, gradients: bool = False) -> tuple[Tensor, Tensor | None]:
        """Scores (n, k) of points (n, d), and (n, k, d). Raises UserError where one is not finite."""
        parts = [self._chunk(part, gradients) for part in torch.split(x, CHUNK)]
        scores = torch.cat([part[0] for part in parts])
        for objective, column in zip(self.objectives, scores.T, strict=True):
            if not bool(column.isfinite().all()):
                raise UserError(f"--objective {objective.name}: a score is not finite")
        return scores, torch.cat([part[1] for part in parts]) if gradients else None

    def _chunk(self, x: Tensor, gradients: bool) -> tuple[Tensor, Tensor]:
        x = x.to(self.generator.model.device).requires_grad_(gradients)
        with torch.set_grad_enabled(gradients):
            generated = self.generator.make(self.generator.space.latents(x))
            scores = torch.stack([objective.score(generated) for objective in self.objectives], dim=1)
            columns = [
                torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in scores.T if gradients
            ]
        stacked = torch.stack(columns, dim=1) if columns else x.new_zeros(0)
        return scores.detach().float().cpu(), stacked.detach().float().cpu()


@dataclass(frozen=True)
class Outcome:
    """Where a search stands when it ends."""

    record: SearchRecord
    totals: NDArray[np.float64]  # of every evaluation, in order
    seconds: float  # of this session

    @property
    def best_so_far(self) -> NDArray[np.float64]:
        """After every evaluation."""
        return np.maximum.accumulate(self.totals)


def way_of(query: Search, generator: LatentModel, objectives: Sequence[Objective]) -> Way:
    """The way to search: as asked, or the one that wins for the objectives at hand.

    auto: gradient for one that is differentiable, ga for several at once, cma for others. Raises UserError.
    """
    smooth = query.method in ("auto", "gradient") and differentiable(objectives, generator)
    if query.method == "gradient" and not smooth:
        names = ", ".join(objective.name for objective in objectives)
        raise UserError(f"--method gradient: no gradient of {names} reaches the latents; use cma")
    if query.method != "auto":
        return next(way for way in WAYS if way == query.method)
    if len(objectives) > 1:
        return "ga"
    return "gradient" if smooth else "cma"


def usual(generator: LatentModel, scorer: Scorer) -> Tensor:
    """Scores (USUAL, k) of samples of the generator under the same conditions."""
    x = generator.space.first(RowDraw(0, 0, "usual", range(USUAL), generator.model.device))
    return scorer(x.cpu())[0]


def search(
    directory: SearchDirectory,
    candidates: Candidates,
    way: Way,
    scorer: Scorer,
    standard: Standard,
    keep: int,
    progress: Progress | None = None,
) -> Outcome:
    """Search, or go on with it, until all generations are made; directory: begun. Raises UserError."""
    began = time.monotonic()
    chosen, record = optimiser(way, candidates), SearchRecord.begun(standard, keep, candidates.space.size)
    state = directory.state()
    if state is not None:
        tensors = {name: torch.from_numpy(np.array(tensor)) for name, tensor in state.items()}
        record.load(
            {
                name.removeprefix("record."): tensor
                for name, tensor in tensors.items()
                if name.startswith("record.")
            }
        )
        chosen.load(
            {name.removeprefix("way."): tensor for name, tensor in tensors.items() if name.startswith("way.")}
        )
    directory.rewind(record.generation)
    saved = time.monotonic()
    while record.generation < candidates.generations:
        number = record.generation
        scores, totals = generation(chosen, record, scorer)
        directory.append(
            {
                "generation": number,
                "evaluations": record.evaluations,
                "best": record.score,
                "totals": totals.tolist(),
                "scores": scores.tolist() if scores.shape[1] > 1 else None,
            }
        )
        if time.monotonic() - saved > SAVED or record.generation == candidates.generations:
            directory.save(_arrays(record, chosen))
            saved = time.monotonic()
        if progress:
            progress("evaluations", record.evaluations, candidates.population * candidates.generations)
    totals_of_all = np.array([total for line in directory.lines() for total in line["totals"]], np.float64)
    return Outcome(record, totals_of_all, time.monotonic() - began)


def _arrays(record: SearchRecord, chosen: Optimiser) -> dict[str, NDArray[Any]]:
    parts = {f"record.{name}": tensor for name, tensor in record.state().items()}
    parts |= {f"way.{name}": tensor for name, tensor in chosen.state().items()}
    return {name: tensor.cpu().numpy() for name, tensor in parts.items()}
