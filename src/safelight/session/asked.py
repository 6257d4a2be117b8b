"""Conditions as the command line says them: in words, or by the file that they name."""

from __future__ import annotations

from collections.abc import Callable

from safelight.data.asked import from_file
from safelight.generate import Wanted
from safelight.recipes.recipe import Recipe
from safelight.session.encoders import text_features
from safelight.types import DataSpec


def wanted_of(
    name: str, value: str, spec: DataSpec, pixels: DataSpec, factor: int, recipe: Callable[[], Recipe]
) -> Wanted:
    """What a condition is asked to be, for `generate.conditions`. Raises UserError.

    spec: of the run. pixels: of the images, at the size they are made in. factor: pixels a side that become
    one. recipe: with the files of the encoders it names, asked for where words are to be read.
    """
    condition = spec.conditions.get(name)
    if condition is None or condition.kind not in ("mask", "text") or value == "none":
        return value
    if condition.kind == "text" and not value.endswith((".npy", ".npz")):
        return text_features(recipe(), [value])
    return from_file(name, value, pixels, factor)
