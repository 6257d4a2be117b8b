"""Search the settings of a recipe."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safelight.api import folder_of
from safelight.config import UserError
from safelight.data.source import Progress
from safelight.report.comparison_page import Written
from safelight.training.arms import Arm, Space
from safelight.training.importance import write_search
from safelight.training.population import population as populate
from safelight.training.progress import TrainingProgress
from safelight.training.search import SAMPLERS, Searched, search


def search_settings(
    recipe: str | Path,
    words: Sequence[str],
    *,
    trials: int = 20,
    budget: float = math.inf,
    metric: str = "",
    sampler: str = "tpe",
    seed: int = 0,
    seeds: int = 1,
    population: int = 0,
    on: str | None = None,
    runs: str | Path | None = None,
    tell: Callable[[Searched, Arm], None] = lambda done, arm: None,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Searched, Written | None]:
    """Look for the values of "optim.lr=1e-4..1e-2,log" and "network.width=32|64" that end best.

    Each of `trials` arms is trained as far as it promises most; the same call goes on with a search that
    was cut off. budget: seconds of all calls. metric: measured column that ranks arms; by default the mean
    loss of held-out images. seed: of the sampler, "tpe" or "random". seeds: runs of each arm, whose mean
    counts. population: train so many side by side instead, whose settings move, see `training.population`.
    on: where several are trained at once, see `sweep`. The comparison is None for fewer than two runs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--search: starts trainings of its own; leave out torchrun, see --on")
    if sampler not in SAMPLERS:
        raise UserError(f"--sampler {sampler}: is not one of {', '.join(SAMPLERS)}")
    space = Space.of(recipe, words, metric, seeds=seeds, seed=seed, sampler=sampler)
    folder = folder_of(runs)
    show = lambda: TrainingProgress().show()  # noqa: E731  made anew for each arm
    how: dict[str, Any] = {"budget": budget, "on": on, "show": show, "tell": tell, "progress": progress}
    if population:
        done = populate(space, folder, population, **how)
    else:
        done = search(space, folder, trials=trials, **how)
    return done, write_search(done, folder)
