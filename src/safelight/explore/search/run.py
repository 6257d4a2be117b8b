"""A search from the words of a person to what comes of it."""

from __future__ import annotations

from typing import Any

from safelight.data.source import Progress
from safelight.explore.collection import newest
from safelight.explore.latent_model import LatentModel
from safelight.explore.search.loop import Scorer, search, usual, way_of
from safelight.explore.search.objectives import check, open_objectives
from safelight.explore.search.optimisers import Candidates
from safelight.explore.search.record import Standard
from safelight.explore.search.result import conclude
from safelight.explore.search.settings import Search, SearchRequest, name_of, settings_of
from safelight.store import searches
from safelight.store.directory import RunDirectory
from safelight.types import Tell


def open_latent_model(
    directory: RunDirectory, request: SearchRequest, query: Search, tell: Tell, progress: Progress | None
) -> LatentModel:
    """The run, told what it is to show. Raises UserError."""
    conditions = dict(query.conditions)
    if query.prompt and "text" in directory.info().facts.data["conditions"]:
        conditions.setdefault("text", query.prompt)
    step = newest(directory) if request.step is None else request.step
    return LatentModel(directory, step, conditions, query.sample, query.seed, tell, progress)


def run_search(
    directory: RunDirectory,
    request: SearchRequest,
    tell: Tell = lambda line: None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search, or go on, and draw what was found. Returns what result.json says. Raises UserError."""
    query = request.search()
    check(query.objectives, query.prompt)
    generator = open_latent_model(directory, request, query, tell, progress)
    objectives = open_objectives(query.objectives, generator, query.prompt, query.encoder)
    way = way_of(query, generator, objectives)
    settings = settings_of(query, way, generator, objectives)
    place = searches.directory(directory.path, request.name or name_of(query, settings))
    scorer = Scorer(generator, objectives)
    with place.begun(settings):
        scores = usual(generator, scorer)
        points = Candidates(generator.space, query.population, query.generations, query.seed)
        outcome = search(place, points, way, scorer, Standard.of(scores), query.keep, progress)
        result = conclude(place, query, generator, objectives, scores, outcome, way)
    return {**result, "folder": str(place.path), "seconds": round(outcome.seconds, 2)}
