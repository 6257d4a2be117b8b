"""What is in force at a step: the recipe as it was written, and the interventions of the journal on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.plan import Plan
from safelight.recipes.recipe import LIVE, Recipe
from safelight.session.prepare import Tell
from safelight.store import inbox
from safelight.store.journal import Intervention, JournalWriter


class InForce:
    """The recipe at any step of a run, the same on every process.

    images: in the training set. writer: of the journal, in the first process only.
    """

    def __init__(self, recipe: Recipe, images: int, world: World, writer: JournalWriter | None) -> None:
        self._recipe, self._images, self._world, self._writer = recipe, images, world, writer
        self._share()

    def recipe_at(self, step: int) -> Recipe:
        """The recipe with the interventions that have taken effect."""
        active = [one for one in self._interventions if one.step <= step]
        if len(active) not in self._recipes:
            changes: dict[str, Any] = {}
            for one in active:
                changes |= one.changes
            self._recipes[len(active)] = self._recipe.with_changes(changes)
        return self._recipes[len(active)]

    def plan_at(self, step: int) -> Plan:
        """What the engine is asked to do at a step."""
        return self.recipe_at(step).plan(self._images)

    def take_edits(self, run: Path, step: int, tell: Tell) -> None:
        """Journal the edits that wait in the inbox, then apply them from `step` on, which has never run.

        An edit that cannot be applied is put aside, with the reason in the journal.
        """
        if self._writer:
            for edit in inbox.take(run, self._writer):
                try:
                    live_only(edit.changes)
                    self._recipe.with_changes({**self._writer.journal.changes_at(step), **edit.changes})
                except UserError as error:
                    inbox.refuse(edit.path, str(error), self._writer)
                    tell(f"edit refused: {error}")
                    continue
                inbox.settle(edit, step, self._writer)
                tell(f"from step {step}: " + ", ".join(f"{k} = {v}" for k, v in edit.changes.items()))
        self._share()

    def _share(self) -> None:
        """The first process's interventions, on every process, by step of effect."""
        own = [asdict(one) for one in self._writer.journal.interventions] if self._writer else []
        shared = self._world.share(own)
        assert isinstance(shared, list)
        self._interventions = sorted((Intervention(**fields) for fields in shared), key=lambda one: one.step)
        self._recipes: dict[int, Recipe] = {0: self._recipe}


def live_only(changes: Mapping[str, Any]) -> None:
    """Raises UserError for a key that cannot be changed while a run goes on."""
    for name in changes:
        if name.split(".")[0] not in LIVE or name.endswith(".kind"):
            raise UserError(f"{name}: cannot be edited in a run; the sections that can: {', '.join(LIVE)}")
