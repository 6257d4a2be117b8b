"""Check and plan recipes, before hours are spent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from safelight import fanout, keys
from safelight.api import folder_of, silent
from safelight.checks.bench.finding import Checked
from safelight.data.source import Progress
from safelight.engine.distributed import World
from safelight.engine.memory import require_memory
from safelight.engine.plan import too_large
from safelight.loading.prepare import prepare as prepare_recipe
from safelight.loading.probe import choose_execution
from safelight.planning import devices
from safelight.planning.first_look import FirstLook, first_look
from safelight.planning.first_look import is_data as is_data
from safelight.planning.plan import Planned
from safelight.planning.plan import plan as measure_plan
from safelight.recipe import load
from safelight.training import check as checking
from safelight.training import stages
from safelight.types import Tell


def check(
    recipe: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    fast: bool = False,
    again: bool = False,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress = lambda what, done, total: None,
) -> Checked:
    """Check a recipe, its data and its networks for silent faults.

    fast: only the checks that `train` begins with. again: also what was checked before.
    """
    resolved = load(recipe, changes or {})
    for line in too_large(resolved.optim):
        tell(line)
    ready = prepare_recipe(resolved, World(), tell, stages.existing(resolved, folder_of(runs)), progress)
    require_memory(ready.method, ready.stream.spec, ready.device)
    began = time.perf_counter()
    execution = choose_execution(ready, tell)
    probed = time.perf_counter() - began
    checked = checking.check(ready, execution, fast, again, progress)
    return replace(checked, seconds=checked.seconds + probed)


def check_all(
    recipes: Sequence[str],
    changes: Mapping[str, Any] | None = None,
    *,
    fast: bool = False,
    again: bool = False,
    on: str | None = None,
    runs: str | Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Iterator[tuple[str, Checked]]:
    """`check` of several recipes, with the same changes, as each ends.

    on: where several are checked at once, see `fanout.pool`; by default one after another, here.
    """
    place = folder_of(runs).absolute()
    checked = partial(check, changes=changes, fast=fast, again=again, runs=place)
    if not on:
        yield from ((recipe, checked(recipe, progress=progress)) for recipe in recipes)
        return
    with fanout.pool(on, len(recipes), place, threads=fanout.stated_threads()) as workers:
        for number, result in fanout.each(workers, checked, [(recipe,) for recipe in recipes], what="recipes",
                                          progress=progress):  # fmt: skip
            yield recipes[number], result


def full_text(recipe: str | Path) -> str:
    """A recipe with every key, and its meaning, as TOML."""
    return keys.full(load(recipe))


def look(
    path: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    minutes: float | None = None,
    tell: Tell = silent,
    progress: Progress = lambda what, done, total: None,
) -> FirstLook:
    """Make a complete recipe for a folder of pictures, the reason of every key beside it."""
    return first_look(path, changes, minutes, tell, progress)


def plan(
    recipe: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    like: str | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress | None = None,
) -> Planned:
    """Estimate parameters, operations, memory, hours and disk of a training, from a few steps of it.

    like: an accelerator to estimate for instead, such as "A100 80GB".
    """
    accelerator = devices.like(like) if like else None
    return measure_plan(load(recipe, changes or {}), folder_of(runs), accelerator, tell, progress)
