"""A search from the words of a person to what comes of it."""

from __future__ import annotations

from typing import Any

from safelight.data.source import Progress
from safelight.explore.collection import newest
from safelight.explore.latent_model import LatentModel
from safelight.explore.search.loop import Scorer, search, usual, way_of
from safelight.explore.search.objectives import check, objectives
from safelight.explore.search.optimisers import Candidates
from safelight.explore.search.record import Standard
from safelight.explore.search.result import conclude
from safelight.explore.search.settings import Search, Wish, name_of, settings_of
from safelight.store import searches
from safelight.store.directory import RunDirectory
from safelight.types import Tell


def open_latent_model(
    directory: RunDirectory, wish: Wish, asked: Search, tell: Tell, progress: Progress | None
) -> LatentModel:
    """The run, told what it is to show. Raises UserError."""
    wanted = dict(asked.conditions)
    if asked.prompt and "text" in directory.info().facts.data["conditions"]:
        wanted.setdefault("text", asked.prompt)
    step = newest(directory) if wish.step is None else wish.step
    return LatentModel(directory, step, wanted, asked.sample, asked.seed, tell, progress)


def run_search(
    directory: RunDirectory, wish: Wish, tell: Tell = lambda line: None, progress: Progress | None = None
) -> dict[str, Any]:
    """Search, or go on, and draw what was found. Returns what result.json says. Raises UserError."""
    asked = wish.search()
    check(asked.objectives, asked.prompt)
    generator = open_latent_model(directory, wish, asked, tell, progress)
    own = objectives(asked.objectives, generator, asked.prompt, asked.encoder)
    way = way_of(asked, generator, own)
    settings = settings_of(asked, way, generator, own)
    place = searches.directory(directory.path, wish.name or name_of(asked, settings))
    scorer = Scorer(generator, own)
    with place.begun(settings):
        scores = usual(generator, scorer)
        points = Candidates(generator.space, asked.population, asked.generations, asked.seed)
        outcome = search(place, points, way, scorer, Standard.of(scores), asked.keep, progress)
        result = conclude(place, asked, generator, own, scores, outcome, way)
    return {**result, "folder": str(place.path), "seconds": round(outcome.seconds, 2)}
