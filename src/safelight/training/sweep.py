"""A sweep: runs trained one after another, or at once. What is done is skipped, what was begun is resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from safelight.config import UserError
from safelight.data.source import Progress
from safelight.engine.distributed import World
from safelight.fanout import each, pool, stated_threads
from safelight.loading.init_source import INIT
from safelight.recipe import Recipe
from safelight.store import metrics
from safelight.store.directory import RUN, RunDirectory
from safelight.store.listing import summary
from safelight.training.grid import Combination
from safelight.training.progress import Show
from safelight.training.stages import finish, sources, stage_of

Outcome = Literal["trained", "resumed", "done before", "failed", "stopped", "not begun"]
ALONE = World()


@dataclass
class Sweep:
    """What has become of the cells of a sweep."""

    cells: Sequence[Combination]
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by name of the run
    problems: dict[str, str] = field(default_factory=dict)  # of failed cells
    seconds: dict[str, float] = field(default_factory=dict)  # that each took, by name of the run

    @property
    def stopped(self) -> bool:
        """Whether it was interrupted, so that the rest was not begun."""
        return "stopped" in self.outcomes.values()

    @property
    def hopeless(self) -> bool:
        """Whether the first two failed for one reason, before anything was trained: so would the rest."""
        reasons = [problem.replace(name, "") for name, problem in self.problems.items()]
        return len(reasons) == len(self.outcomes) > 1 and len(set(reasons)) == 1

    def outcome(self, cell: Combination) -> Outcome:
        """How a cell ended."""
        return self.outcomes.get(cell.name, "not begun")


def sweep(
    cells: Sequence[Combination],
    runs: Path,
    world: World,
    show: Callable[[], Show],
    tell: Callable[[Sweep, Combination], None] = lambda sweep, cell: None,
) -> Sweep:
    """Train every cell that is not finished yet, in order.

    show: what a session shows, made anew for each. tell: called before each cell (it has no outcome yet) and
    after it. A cell that fails is named, and the next one begun, unless
    the first two failed alike. Ctrl-C ends the sweep after the step in
    hand: the same sweep goes on where it was.
    """
    done = Sweep(cells)
    for cell in cells:
        tell(done, cell)
        record(done, cell, *finish_cell(cell.recipe, runs, cell.name, world, show))
        tell(done, cell)
        if done.stopped or done.hopeless:
            break
    return done


def record(done: Sweep, cell: Combination, outcome: Outcome, problem: str, seconds: float) -> None:
    """Note how a cell ended."""
    done.outcomes[cell.name], done.seconds[cell.name] = outcome, seconds
    if problem:
        done.problems[cell.name] = problem


def finish_cell(
    recipe: Recipe,
    runs: Path,
    name: str,
    world: World = ALONE,
    show: Callable[[], Show] = Show,
    until: float = math.inf,
    halt: float = math.inf,
) -> tuple[Outcome, str, float]:
    """Train one cell to its end: how that ended, what went wrong, and the seconds it took.

    until, halt: as for `stages.finish`.
    """
    begun, problem = time.monotonic(), ""
    outcome: Outcome
    try:
        outcome = finish(recipe, runs, name, world, show, until=until, halt=halt)
    except KeyboardInterrupt:
        outcome = "stopped"
    except Exception as error:
        if world.size > 1:
            raise  # the other processes wait for this one: going on would part them
        outcome = "failed"
        problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return outcome, problem, time.monotonic() - begun


def sweep_at_once(
    cells: Sequence[Combination],
    runs: Path,
    on: str,
    tell: Callable[[Sweep, Combination], None] = lambda sweep, cell: None,
    progress: Progress = lambda what, done, total: None,
) -> Sweep:
    """As `sweep`, in the pool that `on` names; --threads are those of each.

    Trainings that cells have in common come first, so that none waits for another. tell: called after each.
    """
    done, device = Sweep(cells), cells[0].recipe.train.device
    runs = runs.absolute()
    runs.mkdir(parents=True, exist_ok=True)
    shared = {
        name: stage
        for cell in cells
        for key, reference in sources(cell.recipe).items()
        if key != INIT and reference.startswith("recipe:")
        for stage, name in [stage_of(reference.partition(":")[2], cell.recipe)]
    }
    try:
        with pool(on, len(cells), runs, threads=stated_threads(), device=device) as workers:
            stages = [(stage, runs, name) for name, stage in shared.items()]
            for _ in each(workers, finish_cell, stages, what="trainings that come first", progress=progress):
                pass  # one that failed fails again in each cell that needs it, which says so
            tasks = [(cell.recipe, runs, cell.name) for cell in cells]
            seen = partial(_steps, cells, runs)
            for place, ended in each(workers, finish_cell, tasks, what="steps", progress=progress, seen=seen):
                record(done, cells[place], *ended)
                tell(done, cells[place])
                if done.hopeless:
                    raise _Hopeless
    except _Hopeless:
        pass
    except KeyboardInterrupt:
        for cell in cells:
            if cell.name not in done.outcomes and (runs / cell.name / RUN).is_file():
                finished = summary(RunDirectory(runs / cell.name)).status == "finished"
                done.outcomes[cell.name] = "trained" if finished else "stopped"
        if not done.stopped:
            raise
    return done


class _Hopeless(Exception):
    """Raised to cancel what waits."""


def _steps(cells: Sequence[Combination], runs: Path) -> tuple[int, int]:
    """Steps that the cells have trained, and those of all, as far as they are known."""
    done = total = 0
    for cell in cells:
        begun = (runs / cell.name / RUN).is_file()
        total += cell.recipe.train.steps or (RunDirectory(runs / cell.name).info().steps if begun else 0)
        done += metrics.reached(runs / cell.name) if begun else 0
    return done, total
