"""A recipe made as long as the minutes given: its steps by a few measured here, its settings by rules."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safelight.config import UserError
from safelight.loading.probe import choose_execution
from safelight.planning import rules
from safelight.planning.first_look import END, SHEETS, START
from safelight.planning.measure import Bench
from safelight.planning.plan import ready_for
from safelight.recipe import Recipe
from safelight.render.wording import duration
from safelight.types import Tell


def fitted(
    recipe: Recipe, stated: Mapping[str, Any], minutes: float, runs: Path, tell: Tell = lambda line: None
) -> tuple[dict[str, Any], str]:
    """The changes that make a recipe take so many minutes from now on, and a line that shows them.

    stated: the changes of the user, which stay. Rates, warm-up and average are scaled where the method trains
    a single loss; adversaries keep the recipe's. Raises UserError.
    """
    for key in ("train.steps", "train.epochs"):
        if key in stated:
            raise UserError(f"--minutes: {key} states the length already; give one of them")
    began = time.perf_counter()
    ready = ready_for(recipe, runs, [], None)
    execution = choose_execution(ready, tell)
    tell("measuring steps")
    bench = Bench(ready.state(execution.memory_format), ready.method, ready.stream, ready.plan, execution)
    seconds = bench.time(recipe.train.batch_size, recipe.train.accumulate, timed=9).seconds
    given = max(24 * minutes, 60 * minutes - START - END - (time.perf_counter() - began)) / (1 + SHEETS)
    steps = max(20, int(given / seconds))
    sheets = -(-steps // 8)
    choices: dict[str, Any] = {
        "train.steps": steps,
        "watch.every": sheets,
        "watch.epochs": [],
        "checkpoint.every": sheets,
        "train.precision": execution.precision,
        "train.memory_format": execution.memory_format,
    }
    if len(ready.method.phases) == len(recipe.optim) == 1:
        (optim,) = recipe.optim.values()
        scaled = rules.scaled(optim, recipe.train.ema, steps, ready.plan.steps)
        choices |= {choice.key: choice.value for choice in scaled}
    changes = {key: value for key, value in choices.items() if key not in stated}
    rate = f", lr {changes['optim.lr']:g}" if "optim.lr" in changes else ""
    return changes, (
        f"trains:  {steps:,} steps in place of {ready.plan.steps:,}, {seconds:.2g} s each "
        f"({execution.precision}){rate}: about {duration(60 * minutes)}"
    )
