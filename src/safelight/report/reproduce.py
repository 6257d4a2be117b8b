"""How to make a run again, in commands that run as they are printed."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path

from safelight.config import flatten
from safelight.loading.in_force import InForce
from safelight.loading.recorded import recipe_of
from safelight.monitor.remedies import toml
from safelight.recipe import Recipe
from safelight.report.facts import Reproduce
from safelight.store import checkpoint_files, listing, retention
from safelight.store.checkpoint_files import read as read_manifest
from safelight.store.directory import RunDirectory


def reproduce(directory: RunDirectory, recipe: Recipe) -> Reproduce:
    """The commands, and what tells whether the same came of them."""
    info = directory.info()
    steps = checkpoint_files.list_steps(directory.path)
    digest = read_manifest(checkpoint_files.directory(directory.path, steps[-1])).digest if steps else ""
    return Reproduce(
        commands=tuple(_commands(directory)),
        seed=recipe.train.seed,
        data_fingerprint=str(info.facts.data["fingerprint"]),
        weights_digest=digest,
        weights_step=steps[-1] if steps else None,
        replay=retention.bound_of(directory).told,
        code_version=" ".join(f"{name} {value}" for name, value in flatten(info.facts.code).items()),
    )


def _commands(directory: RunDirectory) -> list[str]:
    """What to type, in the folder where the run was trained, to make it again and to see its digest."""
    lines, chain = [], [directory, *listing.ancestors(directory)][::-1]
    sessions = chain[0].journal().of_kind("session")
    folder = Path(sessions[0].fields.get("folder", "")) if sessions else Path()
    path = chain[0].path.resolve()
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    where = [] if shown.parent == Path("runs") else ["--runs", str(shown.parent)]
    if folder.is_absolute():
        lines.append(shlex.join(["cd", str(folder)]))
    if (missing := chain[0].info().parent) is not None:
        lines.append(
            f"# {chain[0].name} was forked from run {missing.run}, which is not here: put it back first"
        )
    else:
        words = ["safelight", "train", str(shown / "recipe.toml"), "--name", f"{chain[0].name}-again", *where]
        lines.append(shlex.join(words))
    for parent, child in pairwise(chain):
        begun = child.info().parent
        assert begun is not None
        before = flatten(InForce.of(parent).recipe_at(begun.step).tree)
        changes = [f"{key}={toml(value)}" for key, value in flatten(recipe_of(child).tree).items()
                   if before.get(key) != value and not key.startswith("about.")]  # fmt: skip
        words = ["safelight", "fork", f"{parent.name}-again", "--at", str(begun.step), *changes]
        lines.append(shlex.join([*words, "--name", f"{child.name}-again", *where]))
    lines.append(shlex.join(["safelight", "show", f"{directory.name}-again", *where]))
    begins = [own.step if (own := one.info().parent) else None for one in chain[1:]] + [None]
    edited = [
        one.name
        for one, end in zip(chain, begins, strict=True)
        for entry in one.journal().of_kind("intervention")[:1]
        if end is None or entry.fields["step"] < end
    ]
    if edited:
        lines.append(
            f"# settings of {', '.join(edited)} were changed during training; only replay repeats it"
        )
    return lines
