"""What a run was made from, read back: its recipe, and the shape of its data."""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from typing import Any

from safelight.data.pack import Pack
from safelight.recipes.recipe import Recipe, resolve
from safelight.store.run import RunDirectory
from safelight.types import Condition, DataSpec


def recipe_of(directory: RunDirectory) -> Recipe:
    """The recipe a run was made with, before interventions. Raises UserError."""
    return resolve(tomllib.loads(directory.recipe_text()), directory.info().recipe)


def spec_of(directory: RunDirectory) -> DataSpec:
    """The shape and conditions of the data a run was made with, without the data."""
    data = directory.info().facts.data
    conditions = {
        name: Condition(own["kind"], int(own["size"]), tuple(own["names"]))
        for name, own in data["conditions"].items()
    }
    channels, height, width = data["shape"]
    return DataSpec((channels, height, width), conditions)


def data_facts(pack: Pack) -> dict[str, Any]:
    """What a run records of its data."""
    return {
        "name": pack.name,
        "fingerprint": pack.fingerprint,
        "train": len(pack.train),
        "held_out": len(pack.held_out),
        "left_out": len(pack.bad),
        "shape": list(pack.spec.shape),
        "conditions": {name: asdict(condition) for name, condition in pack.conditions.items()},
    }
