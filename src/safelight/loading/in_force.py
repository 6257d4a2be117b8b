"""What is in force at a step: the recipe as it was written, and the interventions of the journal on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

from safelight.config import UserError
from safelight.data.edits import KEYS as EDITS
from safelight.data.edits import is_edit, pinned, require_items
from safelight.data.pack import Pack
from safelight.engine.distributed import World
from safelight.engine.plan import Plan
from safelight.loading.recorded import PLACES, recipe_of
from safelight.loading.seam import joined
from safelight.recipe import Recipe
from safelight.store import inbox
from safelight.store.directory import RunDirectory
from safelight.store.journal import Intervention, changes_at
from safelight.store.journal_writer import JournalWriter
from safelight.types import Tell


class InForce:
    """The recipe at any step of a run. images: in the training set."""

    def __init__(self, recipe: Recipe, images: int, interventions: Sequence[Intervention]) -> None:
        self._images, self._interventions = images, interventions
        self._recipes: dict[int, Recipe] = {0: recipe}  # by number of interventions that have taken effect

    @classmethod
    def of(cls, directory: RunDirectory) -> Self:
        """Of a run, by its files. Raises UserError, also where an intervention may be lost."""
        images = int(directory.info().facts.data["train"])
        return cls(recipe_of(directory), images, directory.journal().interventions)

    def recipe_at(self, step: int) -> Recipe:
        """The recipe with the interventions that have taken effect."""
        number = sum(edit.step <= step for edit in self._interventions)
        if number not in self._recipes:
            self._recipes[number] = self._recipes[0].with_changes(changes_at(self._interventions, step))
        return self._recipes[number]

    def plan_at(self, step: int) -> Plan:
        """What the engine does at a step."""
        return self.recipe_at(step).plan(self._images)


def take_edits(
    run: Path, writer: JournalWriter, recipe: Recipe, pack: Pack, step: int, tell: Tell, warn: Tell
) -> None:
    """Journal the edits that wait in the inbox, to take effect at `step`, which has never run.

    recipe: as the run was made with. pack: what it trains on. An edit that cannot be applied, or comes
    after the last step, is put aside, the reason journalled. warn: takes a line of it.
    """
    images = pack.trained
    for edit in inbox.take(run, writer, warn):
        try:
            live_only(edit.changes)
            before = recipe.with_changes(writer.journal.changes_at(step))
            changes, line = joined(before, images, step, pinned(edit.changes, before.data, pack))
            after = before.with_changes(changes)
            require_steps(after, images, step, changes)
            require_items(after.data, pack)
            if line:
                warn(line)
            edit = replace(edit, changes=changes)
        except UserError as error:
            inbox.refuse(edit.path, str(error), writer)
            warn(f"edit refused: {error}")
            continue
        inbox.settle(edit, step, writer)
        tell(f"from step {step}: " + ", ".join(f"{key} = {value}" for key, value in edit.changes.items()))


def shared_interventions(world: World, writer: JournalWriter | None) -> list[Intervention]:
    """The interventions of the first process's journal, on every process."""
    shared = world.share([asdict(edit) for edit in writer.journal.interventions] if writer else [])
    assert isinstance(shared, list)
    return [Intervention(**fields) for fields in shared]


def doubts(before: Mapping[str, Any], changes: Mapping[str, Any]) -> Iterator[str]:
    """A line for every learning rate that grows a hundredfold: 2 in place of 2e-3. before: dotted keys."""
    for key, value in changes.items():
        now = before.get(key)
        if key.endswith(".lr") and isinstance(value, int | float) and now and value >= 100 * now:
            yield f"{key}={value:g} is {value / now:,.0f} times the {now:g} it replaces; is that meant?"


def live_only(changes: Mapping[str, Any]) -> None:
    """Raises UserError for a key that cannot be changed while a run goes on."""
    for name in changes:
        if is_edit(name):
            continue
        if name.startswith("data.") and name.removeprefix("data.") in PLACES:
            raise UserError(f"{name}: data that were moved: safelight resume RUN {name}={changes[name]}")
        live = name in inbox.LENGTH or name.split(".")[0] in inbox.LIVE
        if not live or name.endswith(".kind"):
            raise UserError(
                f"{name}: cannot be edited in a run; the sections that can: {', '.join(inbox.LIVE)}; "
                f"also {', '.join((*inbox.LENGTH, *EDITS))}"
            )


def require_steps(recipe: Recipe, images: int, step: int, changes: Iterable[str]) -> None:
    """Raises UserError where changes come after the last step of a recipe."""
    if step >= (steps := recipe.plan(images).steps):
        if any(key in inbox.LENGTH for key in changes):
            raise UserError(f"train.steps={steps}: the run is at step {step:,} already; state more")
        raise UserError(f"the run is finished: no step would run with {', '.join(changes)}")
