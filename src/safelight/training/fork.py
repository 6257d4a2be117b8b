"""A new run from an exact step of another one. Nothing of the old run changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from safelight.config import UserError
from safelight.data.edits import is_edit, pinned, require_items
from safelight.engine.precision import Execution
from safelight.engine.state import Groups, State
from safelight.loading.dependencies import products_of, used
from safelight.loading.in_force import InForce, live_only, require_steps
from safelight.loading.prepare import open_device
from safelight.loading.recorded import data_of, spec_of
from safelight.loading.replay import replay
from safelight.loading.seam import joined
from safelight.recipe import Recipe
from safelight.store import checkpoint, checkpoint_files, renaming
from safelight.store.directory import JOURNAL, RunDirectory, create, require_free
from safelight.store.durable import Announce, silence
from safelight.store.info import Parent
from safelight.store.journal_writer import JournalWriter
from safelight.store.listing import owner_of
from safelight.types import Tell


def fork(
    parent: RunDirectory,
    at: int,
    changes: Mapping[str, Any],
    runs: Path,
    name: str | None = None,
    tell: Tell = lambda line: None,
    why: Mapping[str, Any] | None = None,
    join: str | None = None,
) -> RunDirectory:
    """Make a run that goes on from the state of `parent` after `at` steps, with keys of its recipe changed.

    A step without a checkpoint is recomputed first, and refused unless every step on the way has its recorded
    fingerprint. The interventions in force at the step become part of the new recipe. A step before a fork's
    first one is forked from the run whose step it is. Keys of [method] can be changed where the state stays
    what it is. why: of a remedy, the first entry of the new journal. join: of the learning rate where the
    length is changed, see `seam.joined`. Raises UserError.
    """
    method = {key: value for key, value in changes.items() if key.startswith("method.")}
    live_only({key: value for key, value in changes.items() if key not in method or key == "method.name"})
    parent = owner_of(parent, at)
    info = parent.info()
    require_free(runs, info.recipe, name)
    before, images = InForce.of(parent).recipe_at(at), int(info.facts.data["train"])
    if any(map(is_edit, changes)):
        changes = pinned(changes, before.data, pack := data_of(parent, used(before, products_of(parent))))
        require_items(before.with_changes(changes).data, pack)
    changes, line = joined(before, images, at, changes, join)
    recipe = before.with_changes(changes)
    if changes:
        require_steps(recipe, images, at, changes)
    if line:
        tell(line)
    state, verdict = replay(parent, at, tell)
    if not verdict.agreed:
        kept = ", ".join(map(str, checkpoint_files.list_steps(parent.path))) or "none"
        raise UserError(
            f"{parent.name}: step {at} cannot be reached exactly ({verdict.verdict}); "
            f"fork at a kept checkpoint instead: {kept}"
        )
    groups = state.groups()
    if method:
        _require_fit(parent, recipe, groups, at, sorted(method)[0])

    def fill(path: Path) -> None:
        checkpoint.save(path, at, groups, {"edits": 0})
        if why is not None:
            with JournalWriter(path / JOURNAL) as writer:
                writer.append("remedy", why)

    return create(
        runs,
        tomli_w.dumps(recipe.tree),
        recipe=info.recipe,
        steps=recipe.plan(images).steps,
        facts=replace(info.facts, init={}),  # the checkpoint that it starts from has them
        name=name,
        parent=Parent(info.id, at, checkpoint.digest(groups)),
        fill=fill,
    )


def _require_fit(parent: RunDirectory, recipe: Recipe, groups: Groups, at: int, key: str) -> None:
    """Raises UserError unless the method as it was changed has networks and a memory of the same shapes."""
    info = parent.info()
    state = State(
        used(recipe, products_of(parent)).method(),
        spec_of(parent),
        recipe.plan(int(info.facts.data["train"])),
        open_device(recipe.train.device),
        Execution(**info.facts.execution).memory_format,
    )
    try:
        state.load(groups, at)
    except UserError as error:
        raise UserError(f"{key}: a fork cannot change it ({error}); train a new run") from error


def rollback(
    directory: RunDirectory,
    to: int,
    changes: Mapping[str, Any],
    tell: Tell = lambda line: None,
    announce: Announce = silence,
) -> tuple[RunDirectory, RunDirectory]:
    """The run of this name as it was after `to` steps, keys of its recipe changed; and the run that it was.

    A fork takes the name, and the run it was forked from is renamed: ids stay, and with them the lineage.
    A crash on the way leaves the run as it was, beside a fork of it, or both as they should be. Raises
    UserError: for a run that is being trained, and where `fork` does.
    """
    runs, name = directory.path.parent, directory.name
    with directory.lock():
        branch = fork(directory, to, changes, runs, renaming.free(runs, f"{name}-from-{to}"), tell)
        aside = renaming.free(runs, f"{name}-before-{to}")
        with JournalWriter(directory.journal_path) as writer:
            fields = {"step": to, "run": branch.info().id, "renamed": aside}
            writer.append("fork", {"text": "rolled back", **fields})
        renaming.hand_over(runs, name, branch.name, aside, announce)
    return RunDirectory(runs / name), RunDirectory(runs / aside)
