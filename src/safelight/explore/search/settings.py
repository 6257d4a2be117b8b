"""What is searched for, and how: as a person says it, and with every number settled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

from safelight.config import UserError, nearest
from safelight.explore.latent_model import LatentModel
from safelight.explore.search.objectives import Objective
from safelight.explore.search.optimisers import WAYS
from safelight.language.words import SILENT

USUAL_POPULATION, USUAL_GENERATIONS = 100, 100
LONGEST = 24  # letters of a prompt in a name


@dataclass(frozen=True)
class Search:
    """What is searched for, and how."""

    objectives: tuple[str, ...]
    method: str = "auto"
    population: int = 100
    generations: int = 100
    seed: int = 0
    prompt: str | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)
    encoder: str | None = None
    sample: Mapping[str, Any] = field(default_factory=dict)  # keys of [sample] that are changed
    keep: int = 4  # of the best

    @property
    def budget(self) -> int:
        """Evaluations in all."""
        return self.population * self.generations

    def checked(self) -> Search:
        """Raises UserError where a number or a name makes no sense."""
        if self.population < 1 or self.generations < 1:
            raise UserError("search: --population and --generations must be 1 or more")
        if self.method not in ("auto", *WAYS):
            raise UserError(
                f"--method {self.method}: is not a valid choice{nearest(self.method, ['auto', *WAYS])}"
            )
        return self


@dataclass(frozen=True)
class SearchRequest:
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
        conditions = dict(text.partition("=")[::2] for text in self.conditions)
        return Search(
            self.objectives, self.method, population, generations, self.seed, self.prompt, conditions,
            self.encoder, self.sample, self.keep,
        ).checked()  # fmt: skip


def settings_of(
    query: Search, way: str, generator: LatentModel, objectives: Sequence[Objective]
) -> dict[str, Any]:
    """All that decides what a search finds, for search.json."""
    stated = {**asdict(query), "method": way, "encoder": None}
    return {
        "run": generator.model.directory.info().id,
        "step": generator.model.step,
        **stated,
        "judges": [f"{objective.name}: {objective.description}" for objective in objectives],
        "digests": [objective.digest for objective in objectives],
    }


def name_of(query: Search, settings: Mapping[str, Any]) -> str:
    """A name by the prompt, the way and a digest of all: the same words find the same search again."""
    letters = (
        letter if letter.isalnum() and letter.isascii() else " " for letter in (query.prompt or "").lower()
    )
    short = ""
    for word in "".join(letters).split():
        if word not in SILENT and len(f"{short}-{word}") <= LONGEST:
            short = f"{short}-{word}".strip("-")
    digest = blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=3).hexdigest()
    return f"{short if short[:1].isalpha() else 'search'}-{settings['method']}-{digest}"
