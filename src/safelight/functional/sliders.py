"""Sliders: conditions that are moved from one value to another, all else held: "hair=0..1".

Several that belong together move as one: "male=0..1,female=1..0". A class is moved through by its number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from safelight.config import UserError, nearest
from safelight.types import DataSpec, Values


@dataclass(frozen=True)
class Slider:
    """ends: by attribute, or "label", its value at either end."""

    ends: Mapping[str, tuple[float, float]]

    def steps(self, usual: int) -> int:
        """Places on it: one for each class, as many as usual of an attribute."""
        low, high = self.ends.get("label", (0.0, usual - 1.0))
        return round(abs(high - low)) + 1

    def at(self, share: float) -> dict[str, float]:
        """The values at a place between the ends, 0 to 1."""
        return {name: low + share * (high - low) for name, (low, high) in self.ends.items()}


def read(text: str, spec: DataSpec) -> Slider:
    """A slider from its words. Raises UserError for a condition the data do not have."""
    attributes = spec.conditions["attributes"].names if "attributes" in spec.conditions else ()
    known = (*attributes, *(("label",) if spec.classes else ()))
    ends = {}
    for part in text.split(","):
        name, _, span = (word.strip() for word in part.partition("="))
        if name not in known:
            raise UserError(f"attribute {name}: the data have no such attribute{nearest(name, known)}")
        low, dots, high = span.partition("..")
        try:
            ends[name] = (float(low), float(high))
        except ValueError:
            dots = ""
        if not dots or not all(map(math.isfinite, ends[name])):
            raise UserError(f"attribute {part.strip()}: expected a range, such as {name}=0..1")
        if name == "label" and not all(end in range(spec.classes) for end in ends[name]):
            raise UserError(f"attribute {part.strip()}: classes are numbered 0..{spec.classes - 1}")
    return Slider(ends)


def each(spec: DataSpec, given: Values) -> tuple[Slider, ...]:
    """Every attribute from 0 to 1; where there are none, the classes.

    given: real conditions (b, ...). Attributes that add up to 1 in all of them move as one.
    """
    if "attributes" not in spec.conditions:
        return (Slider({"label": (0.0, spec.classes - 1.0)}),) if spec.classes > 1 else ()
    all_names, rows = spec.conditions["attributes"].names, given["attributes"]
    names = list(all_names)
    sliders = []
    while names:
        ends = {(name := names.pop(0)): (0.0, 1.0)}
        for other in names:
            both = rows[:, all_names.index(name)] + rows[:, all_names.index(other)]
            if len(rows) > 1 and bool(((both - 1).abs() < 1e-3).all()):
                ends[other] = (1.0, 0.0)
                names.remove(other)
                break
        sliders.append(Slider(ends))
    return tuple(sliders)


def places(sliders: Sequence[Slider], steps: int) -> list[dict[str, float]]:
    """Every combination of `steps` places on each slider, the last one moving fastest."""
    shares = [step / max(steps - 1, 1) for step in range(steps)]
    combined = itertools.product(*([slider.at(share) for share in shares] for slider in sliders))
    return [{name: value for values in place for name, value in values.items()} for place in combined]


def moved(given: Values, spec: DataSpec, values: Mapping[str, float]) -> dict[str, Tensor]:
    """The conditions with some attributes, or the class, set for every sample."""
    changed = dict(given)
    for name, value in values.items():
        if name == "label":
            changed["label"] = given["label"].new_full(given["label"].shape, round(value))
            continue
        rows = changed["attributes"].clone()
        rows[:, spec.conditions["attributes"].names.index(name)] = value
        changed["attributes"] = rows
    return changed


def labels(
    sliders: Sequence[Slider], columns: Sequence[Mapping[str, float]], spec: DataSpec
) -> tuple[str, ...]:
    """A label for each place: "hair 0.5", a class by its name; of what moves together the first."""
    names = [next(iter(slider.ends)) for slider in sliders]
    return tuple(
        " ".join(_worded(name, place[name], spec) for name in names if name in place) for place in columns
    )


def _worded(name: str, value: float, spec: DataSpec) -> str:
    if name != "label":
        return f"{name} {round(value, 2):g}"
    classes = spec.conditions["label"].names
    return classes[round(value)] if classes else f"class {round(value)}"
