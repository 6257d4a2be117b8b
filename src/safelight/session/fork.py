"""A new run from an exact step of another one. Nothing of the old run changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from safelight.config import UserError
from safelight.session.inforce import InForce, live_only
from safelight.session.prepare import Tell
from safelight.session.recorded import recipe_of
from safelight.session.replay import replay
from safelight.store import checkpoint, keep
from safelight.store.create import create
from safelight.store.lineage import owner_of
from safelight.store.run import Parent, RunDirectory


def fork(
    parent: RunDirectory,
    at: int,
    changes: Mapping[str, Any],
    runs: Path,
    name: str | None = None,
    tell: Tell = lambda line: None,
) -> RunDirectory:
    """Make a run that goes on from the state of `parent` after `at` steps, with keys of its recipe changed.

    A step without a checkpoint is recomputed first, and refused unless every step on the way has its recorded
    fingerprint. The interventions in force at the step become part of the new recipe. A step before a fork's
    first one is forked from the run whose step it is. Raises UserError.
    """
    live_only(changes)
    parent = owner_of(parent, at)
    info = parent.info()
    in_force = InForce(recipe_of(parent), int(info.facts.data["train"]), parent.journal().interventions)
    recipe = in_force.recipe_at(at).with_changes(changes)
    state, verdict = replay(parent, at, tell)
    if not verdict.agreed:
        kept = ", ".join(map(str, keep.list_steps(parent.path))) or "none"
        raise UserError(
            f"{parent.name}: step {at} cannot be reached exactly ({verdict.verdict}); "
            f"fork at a kept checkpoint instead: {kept}"
        )
    groups = state.groups()
    return create(
        runs,
        tomli_w.dumps(recipe.tree),
        recipe=info.recipe,
        steps=recipe.plan(int(info.facts.data["train"])).steps,
        facts=info.facts,
        name=name,
        parent=Parent(info.id, at, checkpoint.digest(groups)),
        fill=lambda path: checkpoint.save(path, at, groups, {"edits": 0}),
    )
