"""The arms of a search of settings: what each trains, how far, and what it measured on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from safelight.config import UserError, install
from safelight.fanout import pool, stated_threads
from safelight.monitor.stop import LESS, MEAN, MEASURED
from safelight.recipe import Recipe, load
from safelight.report.forecasts import Course, course_of
from safelight.store.directory import RunDirectory
from safelight.training.grid import SEED, Combination, combination, digest
from safelight.training.progress import Show
from safelight.training.ranges import Axis, axes, features
from safelight.training.sweep import ALONE, Outcome, finish_cell
from safelight.types import Balances

ETA = 3  # of the arms that came to a rung the best third goes on, for three times as many steps
RUNGS = 2  # before the last step
LOOKS = 2  # measurements up to the first rung
Cells = Sequence[tuple[Recipe, str]]


@dataclass(frozen=True)
class Space:
    """What is searched: a recipe, keys and their ranges, and the value by which arms are judged."""

    source: str | Path
    axes: tuple[Axis, ...]
    fixed: Mapping[str, Any]
    metric: str
    seeds: int = 1
    seed: int = 0  # of the sampler
    sampler: str = "tpe"

    @classmethod
    def of(cls, source: str | Path, words: Sequence[str], metric: str = "", **how: Any) -> Space:
        """From words such as optim.lr=1e-4..1e-2,log. Raises UserError."""
        ranges, fixed = axes(source, words)
        recipe = load(source, {**fixed, **{axis.key: axis.at(0) for axis in ranges}})
        if not metric and isinstance(recipe.method(), Balances):
            raise UserError(
                "--search: losses of networks that work against each other rank nothing; state a distance, "
                "such as --metric evaluate/FD-classifier"
            )
        metric = metric or recipe.stop.metric or MEAN
        if not metric.startswith(MEASURED):
            raise UserError(f"--metric {metric}: is not measured; name a column of {' or '.join(MEASURED)}")
        if how.get("seeds", 1) > 1 and any(axis.key == SEED for axis in ranges):
            raise UserError(f"{SEED}: is searched already; leave out --seeds")
        made = cls(source, tuple(ranges), fixed, metric, **how)
        made.cells({axis.key: axis.at(0) for axis in ranges})
        return made

    @property
    def less(self) -> bool:
        """Whether a lower value is better."""
        return bool(LESS.match(self.metric))

    @property
    def name(self) -> str:
        """ "search-digits-lr-width-1f0c3a": the folder of the study, a function of all that is searched."""
        recipe = load(self.source, {**self.fixed, **{axis.key: axis.at(0) for axis in self.axes}})
        keys = [axis.key.rpartition(".")[2] for axis in self.axes]
        what = (*self.axes, self.metric, self.seeds, self.seed, self.sampler)
        return "-".join(["search", recipe.name, *keys, digest(recipe, repr(what))])

    def cells(self, tried: Mapping[str, Any]) -> tuple[Combination, ...]:
        """A run for each seed of a combination. Raises UserError."""
        recipe = load(self.source, {**self.fixed, **tried})
        steps = steps_of(recipe)
        changes: dict[str, Any] = {}
        if "watch.every" not in self.fixed:
            changes["watch.every"] = max(1, steps // (ETA**RUNGS * LOOKS))
        if self.metric.startswith("evaluate/") and not recipe.evaluate.every:
            changes["evaluate.every"] = rungs(recipe.with_changes(changes), self.metric)[0]
        recipe = recipe.with_changes(changes)
        swept = {key: value for key, value in tried.items() if key != SEED}
        first = recipe.train.seed
        seeds = range(first, first + self.seeds)
        return tuple(combination(recipe.with_changes({SEED: seed}), swept) for seed in seeds)


def steps_of(recipe: Recipe) -> int:
    """The length of a recipe that is searched. Raises UserError where it counts epochs."""
    if recipe.train.steps is None:
        raise UserError("--search: rungs are counted in steps; state train.steps, such as train.steps=2000")
    return recipe.train.steps


def rungs(recipe: Recipe, metric: str) -> list[int]:
    """Steps at which an arm is judged, the last one its length: a ninth and a third, where it is measured."""
    steps = steps_of(recipe)
    every = recipe.evaluate.every if metric.startswith("evaluate/") else 0
    every = every or recipe.watch.every
    marks = {max(1, round(steps / ETA**rung / every)) * every for rung in range(1, RUNGS + 1)}
    return [*sorted(mark for mark in marks if mark < steps), steps]


@dataclass
class Arm:
    """A combination of settings that is trained, as far as it promises most."""

    number: int
    tried: Mapping[str, Any]
    cells: tuple[Combination, ...]
    rungs: list[int]
    course: Course = field(default_factory=list)
    fate: str = "begun"  # finished, stopped early, failed, or why it rests
    problem: str = ""
    trial: Any = None  # of optuna

    @property
    def label(self) -> str:
        """ "lr = 0.003 · width = 32"."""
        words = self.cells[0].label.split(" · ")
        return " · ".join(words[:-1]) if len(words) > 1 else words[0]

    @property
    def steps(self) -> int:
        """Steps behind it."""
        return self.course[-1][0] if self.course else 0

    @property
    def value(self) -> float:
        """As measured last."""
        return self.course[-1][1] if self.course else math.nan

    def settings(self, axes: Sequence[Axis]) -> dict[str, float]:
        return features(axes, self.tried)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        runs = [cell.name for cell in self.cells]
        return {
            "number": self.number,
            "settings": dict(self.tried),
            "runs": runs,
            "steps": self.steps,
            "value": self.value,
            "fate": self.fate,
            "problem": self.problem,
            "course": self.course,
        }


def stretch(
    cells: Cells, runs: Path, metric: str, halt: int, seconds: float, show: Callable[[], Show] = Show
) -> tuple[Outcome, str, Course]:
    """Train cells up to a step, for so many seconds at most; what they measured on the way, on average.

    Of one that is stopped, the problem says that its time was over.
    """
    until, courses = time.monotonic() + seconds, []
    outcome: Outcome = "done before"
    for recipe, name in cells:
        outcome, problem, _ = finish_cell(recipe, runs, name, ALONE, show, until, halt)
        if outcome == "stopped":
            ends = RunDirectory(runs / name).journal().of_kind("end")
            return outcome, str(ends[-1].fields["message"]) if ends else "", []
        if outcome == "failed":
            return outcome, problem, []
        course = course_of(RunDirectory(runs / name), metric, halt)
        if not course:
            return "failed", f"{name}: {metric} was not measured up to step {halt:,}", []
        courses.append(dict(course))
    shared = sorted(set.intersection(*map(set, courses)))
    return outcome, "", [(step, fmean(course[step] for course in courses)) for step in shared]


class Here(Executor):
    """A pool of one place: this process."""

    size = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def workers(on: str | None, tasks: int, runs: Path, device: str) -> Iterator[Any]:
    """The pool that `on` names, or this process. Raises UserError."""
    if not on:
        yield Here()
        return
    with pool(on, tasks, runs, threads=stated_threads(), device=device) as made:
        yield made


def require_optuna() -> None:
    """Raises UserError without the extra `optuna`."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UserError(f"--search needs optuna: {install('optuna')}") from error
