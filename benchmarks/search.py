"""Best score against evaluations, for every way to search, on a trained run of captions.

    python benchmarks/search.py RUN [evaluations] [prompt ...]

Every number is the mean over prompts and seeds of the best score so far, and its deviation over seeds.
The searches stay with the run, in searches/, and are not made twice.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safelight.explore.search.optimisers import WAYS
from safelight.explore.search.run import run_search
from safelight.explore.search.settings import SearchRequest
from safelight.store.directory import RunDirectory, find, runs_directory
from safelight.store.searches import SearchDirectory

POPULATION = 32
EVALUATIONS = 1600
PROMPTS = ("red apple", "green leaf", "smiling face")
SEEDS = (0, 1, 2)


def best_so_far(run: RunDirectory, way: str, prompt: str, seed: int, evaluations: int) -> NDArray[np.float64]:
    """The best score after each evaluation, (evaluations,)."""
    wish = SearchRequest(prompt=prompt, method=way, population=POPULATION, budget=evaluations, seed=seed)
    directory = SearchDirectory(Path(run_search(run, wish)["folder"]))
    return np.maximum.accumulate([total for line in directory.lines() for total in line["totals"]])


def row(way: str, scores: NDArray[np.float64]) -> str:
    """A row of the table, of scores (seeds, budgets)."""
    cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(scores.mean(0), scores.std(0), strict=True)]
    return f"| {way} | {' | '.join(cells)} |"


def main() -> None:
    """Search and print the table."""
    run = find(sys.argv[1], runs_directory(None))
    evaluations = int(sys.argv[2]) if len(sys.argv) > 2 else EVALUATIONS
    prompts = tuple(sys.argv[3:]) or PROMPTS
    budgets = [evaluations // 25, evaluations // 5, evaluations // 2, evaluations]
    print(f"{run.name}: {', '.join(prompts)}; population {POPULATION}, {len(SEEDS)} seeds\n")
    print(f"| evaluations | {' | '.join(map(str, budgets))} |\n|---|{'---:|' * len(budgets)}")
    for way in WAYS:
        scores = np.array(
            [[best_so_far(run, way, prompt, seed, evaluations) for prompt in prompts] for seed in SEEDS]
        )
        print(row(way, scores.mean(1)[:, [budget - 1 for budget in budgets]]), flush=True)


if __name__ == "__main__":
    main()
