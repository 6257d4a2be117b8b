"""A search from the words of a person to what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safelight.config import UserError
from safelight.data.source import Progress
from safelight.explore.optimisers import Asked
from safelight.explore.record import Standard
from safelight.session.objectives import check, objectives
from safelight.session.prepare import Tell
from safelight.session.search import Scorer, Search, name_of, search, settings_of, usual, way_of
from safelight.session.search_result import conclude
from safelight.session.specimens import newest
from safelight.session.studio import Studio
from safelight.store import searches
from safelight.store.run import RunDirectory

USUAL_POPULATION, USUAL_GENERATIONS = 100, 100


@dataclass(frozen=True)
class Wish:
    """What a person asks for; None where nothing was said."""

    objectives: tuple[str, ...] = ("text",)
    prompt: str | None = None
    method: str = "auto"
    population: int | None = None
    generations: int | None = None
    budget: int | None = None
    conditions: tuple[str, ...] = ()  # NAME=VALUE
    encoder: str | None = None
    sample: Mapping[str, Any] = field(default_factory=dict)
    keep: int = 4
    step: int | None = None
    seed: int = 0
    name: str | None = None

    def search(self) -> Search:
        """With every number settled. Raises UserError where one makes no sense."""
        population = USUAL_POPULATION if self.population is None else self.population
        generations = USUAL_GENERATIONS if self.generations is None else self.generations
        if self.budget is not None:
            if population >= 1 and self.budget < population:
                raise UserError(f"--budget {self.budget}: is less than one generation of {population}")
            most = self.budget // max(population, 1)
            generations = most if self.generations is None else min(generations, most)
        wanted = dict(text.partition("=")[::2] for text in self.conditions)
        return Search(
            self.objectives, self.method, population, generations, self.seed, self.prompt, wanted,
            self.encoder, self.sample, self.keep,
        ).checked()  # fmt: skip


def open_studio(
    directory: RunDirectory, wish: Wish, asked: Search, tell: Tell, progress: Progress | None
) -> Studio:
    """The run, told what it is to show. Raises UserError."""
    wanted = dict(asked.conditions)
    if asked.prompt and "text" in directory.info().facts.data["conditions"]:
        wanted.setdefault("text", asked.prompt)
    step = newest(directory) if wish.step is None else wish.step
    return Studio(directory, step, wanted, asked.sample, asked.seed, tell, progress)


def run_search(
    directory: RunDirectory, wish: Wish, tell: Tell = lambda line: None, progress: Progress | None = None
) -> dict[str, Any]:
    """Search, or go on, and draw what was found. Returns what result.json says. Raises UserError."""
    asked = wish.search()
    check(asked.objectives, asked.prompt)
    studio = open_studio(directory, wish, asked, tell, progress)
    own = objectives(asked.objectives, studio, asked.prompt, asked.encoder)
    way = way_of(asked, studio, own)
    settings = settings_of(asked, way, studio, own)
    place = searches.directory(directory.path, wish.name or name_of(asked, settings))
    scorer = Scorer(studio, own)
    with place.begun(settings):
        scores = usual(studio, scorer)
        points = Asked(studio.space, asked.population, asked.generations, asked.seed)
        outcome = search(place, points, way, scorer, Standard.of(scores), asked.keep, progress)
        result = conclude(place, asked, studio, own, scores, outcome, way)
    return {**result, "folder": str(place.path), "seconds": round(outcome.seconds, 2)}
