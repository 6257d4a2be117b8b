"""Population-based training (Jaderberg et al. 2017): settings that move while runs train.

The members of a population train in rounds. After each the worst quarter gives up, each for a fork of a run
of the best quarter at that step, with its settings moved: journalled edits, as anyone could have made them.
Who takes over from whom is a function of what was measured and of the seed, the name of a fork one of its
place and round: the same call goes on with a population that was cut off, and nothing is trained twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from safelight.config import UserError
from safelight.data.source import Progress
from safelight.loading.in_force import live_only
from safelight.report.forecasts import Course, course_of
from safelight.store import checkpoint_files, inbox, lock
from safelight.store.directory import RUN, RunDirectory
from safelight.store.durable import mendable
from safelight.store.listing import summary
from safelight.training.arms import Arm, Space, rungs, steps_of, workers
from safelight.training.fork import fork
from safelight.training.grid import Combination
from safelight.training.progress import Show
from safelight.training.search import Searched
from safelight.training.start import resume
from safelight.training.sweep import ALONE, finish_cell

ROUNDS = 8
QUARTER = 4  # of the members one in so many gives up, and as many are taken over


def population(
    space: Space,
    runs: Path,
    size: int,
    *,
    budget: float = math.inf,
    on: str | None = None,
    show: Callable[[], Show] = Show,
    tell: Callable[[Searched, Arm], None] = lambda done, arm: None,
    progress: Progress = lambda what, done, total: None,
    rounds: int = ROUNDS,
) -> Searched:
    """Train a population of `size`, for `budget` seconds of this call. Raises UserError.

    Arms of the result are the members as they are in the end; other arguments as of `search`.
    """
    live_only({axis.key: None for axis in space.axes})
    if size < QUARTER:
        raise UserError(
            f"--population {size}: a quarter of it is replaced at a time; state {QUARTER} or more"
        )
    if space.seeds > 1:
        raise UserError("--seeds: a population has one run a member; leave it out")
    runs, begun = runs.absolute(), time.monotonic()
    name = f"{space.name}-p{size}"
    with mendable(runs / name):
        (runs / name).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(lock.held(runs / name))
        arms = [_first(space, name, place) for place in range(size)]
        recipe = arms[0].cells[0].recipe
        marks = _marks(steps_of(recipe), rungs(recipe, space.metric)[0], rounds)
        done = Searched(space, arms)
        places = stack.enter_context(workers(on, size, runs, recipe.train.device))
        extra = () if on else (show,)
        for number, mark in enumerate(marks):
            progress("rounds", number, len(marks))
            left = budget - (time.monotonic() - begun)
            tasks = {
                places.submit(advance, arm.cells[0], runs, space.metric, mark, left, *extra): arm
                for arm in arms
            }
            wait(tasks)
            for future, arm in tasks.items():
                outcome, problem, arm.course = future.result()
                if outcome == "stopped":
                    done.over, done.stopped = done.over or bool(problem), done.stopped or not problem
                elif outcome == "failed":
                    raise UserError(problem)
            if done.over or done.stopped:
                return done
            if mark < marks[-1]:
                for loser, winner in taken_over(arms, space.less, space.seed, number):
                    _take_over(space, runs, name, number + 1, mark, loser, winner)
                    tell(done, loser)
    for arm in arms:
        arm.fate = "finished"
        tell(done, arm)
    return done


def taken_over(arms: Sequence[Arm], less: bool, seed: int, number: int) -> list[tuple[Arm, Arm]]:
    """Who gives up, the worst first, and the member that it goes on from. Values not finite are worst."""
    order = sorted(arms, key=lambda arm: (_cost(arm.value, less), arm.number))
    some = max(1, len(arms) // QUARTER)
    draw = np.random.default_rng([seed, number])
    return [(loser, order[int(draw.integers(some))]) for loser in order[::-1][:some]]


def _cost(value: float, less: bool) -> float:
    return math.inf if not math.isfinite(value) else value if less else -value


def advance(
    cell: Combination, runs: Path, metric: str, halt: int, seconds: float, show: Callable[[], Show] = Show
) -> tuple[str, str, Course]:
    """Train a member up to a step, and what it has measured by then."""
    directory, until = RunDirectory(runs / cell.name), time.monotonic() + seconds
    if not (directory.path / RUN).is_file() or not directory.info().parent:
        outcome, problem, _ = finish_cell(cell.recipe, runs, cell.name, ALONE, show, until, halt)
        if outcome == "failed":
            return outcome, problem, []
    elif max(checkpoint_files.list_steps(directory.path), default=0) < halt:
        resume(directory, ALONE, show(), until=until, halt=halt)
    if max(checkpoint_files.list_steps(directory.path), default=0) < halt:
        ends = directory.journal().of_kind("end")
        over = summary(directory).status == "finished"
        return "failed" if over else "stopped", str(ends[-1].fields["message"]) if ends else "", []
    return "trained", "", course_of(directory, metric, halt)


def _first(space: Space, name: str, place: int) -> Arm:
    """A member as it begins: settings drawn evenly from the ranges."""
    draw = np.random.default_rng([space.seed, place])
    tried = {axis.key: axis.at(float(draw.random())) for axis in space.axes}
    (cell,) = space.cells(tried)
    return Arm(place, tried, (Combination(f"{name}-{place}", _label(place, tried), cell.recipe),), [])


def _take_over(space: Space, runs: Path, name: str, number: int, mark: int, loser: Arm, winner: Arm) -> None:
    """Go on in the place of a loser from where a winner is, settings moved; a fork that is there is kept."""
    draw = np.random.default_rng([space.seed, number, loser.number])
    tried = {axis.key: axis.near(winner.tried[axis.key], bool(draw.integers(2))) for axis in space.axes}
    branch = RunDirectory(runs / f"{name}-{loser.number}-round-{number}")
    if not (branch.path / RUN).is_file():
        fork(RunDirectory(runs / winner.cells[0].name), mark, {}, runs, branch.name)
    if not (branch.journal().interventions or inbox.waiting(branch.path)):
        inbox.drop(branch.path, tried, "population")
    loser.problem = f"round {number}: goes on from member {winner.number}"
    loser.tried, loser.course = tried, winner.course
    loser.cells = (Combination(branch.name, _label(loser.number, tried), winner.cells[0].recipe),)


def _label(place: int, tried: Mapping[str, Any]) -> str:
    words = [f"{key.rpartition('.')[2]} = {value}" for key, value in tried.items()]
    return " · ".join([*words, f"member {place}"])


def _marks(steps: int, least: int, rounds: int) -> list[int]:
    """Steps at which rounds end, each measured."""
    every = max(least, round(steps / rounds / least) * least)
    return [*range(every, steps, every), steps]
