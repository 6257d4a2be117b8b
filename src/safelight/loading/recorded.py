"""What a run was made from, read back: its recipe, and the shape of its data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safelight.config import UserError, nearest
from safelight.data import open_data
from safelight.data.balance import mask_shares
from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.data.space import Space
from safelight.recipe import Recipe, resolve
from safelight.store import checkpoint_files
from safelight.store.directory import RunDirectory
from safelight.store.journal import JournalEntry
from safelight.store.journal_writer import JournalWriter
from safelight.types import DataSpec, Tell

PLACES = ("path", "source", "layout", "table", "subset", "revision", "text_features", "follow_links")
"""Keys of [data] that say where data are and how they are found, not what they are or how they are shown."""
MACHINE = ("train.device", "train.precision")  # keys that say what computes


def recipe_of(directory: RunDirectory) -> Recipe:
    """The recipe a run was made with, before interventions, its data where they are now. Raises UserError.

    A run from before data.rules keeps the rules of its time.
    """
    moves, tree = directory.journal().of_kind("moved"), directory.recipe_tree()
    recipe = resolve({**tree, "data": {"rules": 1, **tree.get("data", {})}}, directory.info().recipe)
    return elsewhere(recipe, _moved(moves)) if moves else recipe


def _moved(moves: Iterable[JournalEntry]) -> dict[str, Any]:
    """Where data and device of a run are now: the newest keys of [data], and the newest of each other."""
    now: dict[str, Any] = {}
    for entry in moves:
        changes = entry.fields["changes"]
        if any(key.startswith("data.") for key in changes):
            now = {key: value for key, value in now.items() if not key.startswith("data.")}
        now |= changes
    return now


def execution_of(directory: RunDirectory) -> dict[str, str]:
    """The arithmetic of a run's next session: as it was chosen, or as it was changed on another machine."""
    moved = _moved(directory.journal().of_kind("moved"))
    stated = {"precision": moved["train.precision"]} if "train.precision" in moved else {}
    return {**directory.info().facts.execution, **stated}


def elsewhere(recipe: Recipe, places: Mapping[str, Any]) -> Recipe:
    """The recipe with other places of its data, {"data.path": ...}, as absolute paths. Raises UserError."""
    for name in places:
        if name == "train.precision" and places[name] not in ("fp32", "bf16", "fp16"):
            raise UserError("train.precision: state fp32, bf16 or fp16 for a run that goes on")
        if name not in (*MACHINE, *(f"data.{key}" for key in PLACES)):
            raise UserError(
                f"{name}: cannot be edited in a run; moved data are data.path=NEW, other settings are "
                "changed by safelight tune, fork or train"
            )
    return recipe.with_changes(places)


def relocate(directory: RunDirectory, places: Mapping[str, Any], progress: Progress | None = None) -> None:
    """Journal that the data of a run are elsewhere, {"data.path": ...}, or that it goes on on another device.

    Raises UserError where they are not what the run was trained on, or the run is being trained.
    """
    recipe = elsewhere(recipe_of(directory), places)
    changes = {key: value for key, value in places.items() if key in MACHINE}
    if changes.keys() != places.keys():
        data_of(directory, recipe, progress)
        stated = recipe.data.model_dump(mode="json", include={*PLACES}, exclude_none=True)
        changes |= {f"data.{key}": value for key, value in stated.items()}
    with directory.lock(), JournalWriter(directory.journal_path) as writer:
        writer.append("moved", {"changes": changes})


def pixel_spec_of(directory: RunDirectory) -> DataSpec:
    """The shape and conditions of the images a run was made with, without them."""
    data = directory.info().facts.data
    return replace(DataSpec.from_dict(data["shape"], data["conditions"]), alpha=data["shape"][0] == 4)


def spec_of(directory: RunDirectory) -> DataSpec:
    """The data of a run as its method sees them: of latents, the shape of those."""
    pixels, latents = pixel_spec_of(directory), directory.info().facts.data.get("latents")
    if latents is None:
        return pixels
    channels, height, width = latents["shape"]
    return DataSpec((channels, height, width), pixels.conditions)


def data_of(directory: RunDirectory, recipe: Recipe, progress: Progress | None = None) -> Pack:
    """The data of a run. Raises UserError where they are not what it was trained on."""
    return require_data(directory, open_data(recipe.data, progress))


def require_data(directory: RunDirectory, pack: Pack) -> Pack:
    """The pack, which has to be what the run was trained on. Raises UserError."""
    if pack.fingerprint != directory.info().facts.data["fingerprint"]:
        raise UserError(
            f"{directory.path}: the data has changed since the run began ({len(pack):,} images now); put it "
            "back, say where it is now (data.path=NEW), or train a new run"
        )
    return pack


def data_facts(pack: Pack, space: Space) -> dict[str, Any]:
    """What a run records of its data."""
    facts = {
        "name": pack.name,
        "fingerprint": pack.fingerprint,
        "train": pack.trained,
        "held_out": sum(len(part.held_out) for part in pack.parts),
        "left_out": len(pack.bad),
        "shape": list(pack.spec.shape),
        "conditions": {name: asdict(condition) for name, condition in pack.conditions.items()},
    }
    if pack.buckets:
        facts["buckets"] = [[*part.images.shape[1:3], len(part.train)] for part in pack.buckets]
    if "mask" in pack.described:
        facts["mask_shares"] = list(mask_shares(pack))
    if space.codec:
        shape = list(space.shape(pack.spec.shape))
        facts["latents"] = {"shape": shape, "shift": list(space.shift), "scale": list(space.scale)}
    return facts


def code_facts(recipe: Recipe) -> dict[str, str]:
    """The version, a digest of the package's source, and the code from outside that the recipe runs."""
    outside = {code.origin: code.version for code in recipe.outside.values()}
    return {"safelight": version("safelight"), "source": _source(), **outside}


@cache
def _source() -> str:
    """A digest of the package's Python source, which tells edited installs apart."""
    digest = blake2b(digest_size=12)
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def checkpoint_step(directory: RunDirectory, step: int | str | None, warn: Tell) -> int:
    """The step of a checkpoint by step or name; None is the newest good one. Raises UserError.

    warn: takes a line for each damaged one that is passed over.
    """
    if step is None:
        damage: list[str] = []
        saved = checkpoint_files.newest_good(directory.path, directory.digests(), tell=damage.append)
        for line in damage:
            warn(f"{line}; goes on with step {saved.step}" if saved else line)
        if saved is None:
            raise UserError(f"{directory.name}: has no checkpoint yet; train it further first")
        return saved.step
    if isinstance(step, str):
        named = checkpoint_files.read_pins(directory.path)
        if step not in named:
            raise UserError(f"{directory.name}: no checkpoint has the name {step!r}{nearest(step, named)}")
        step = named[step].step
    steps = checkpoint_files.list_steps(directory.path)
    if step not in steps:
        raise UserError(
            f"{directory.name}: has no checkpoint of step {step} (kept: {', '.join(map(str, steps))}); "
            "run.at(step) recomputes it"
        )
    return step
