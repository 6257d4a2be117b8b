"""Which edit, loss component or image made a run what it is: found by forks without some of them.

Every draw has a name, so that a fork without a candidate differs from the run by that candidate alone. Halves
are left out until one is left: at most ceil(log2 N) + 2 forks where there is one cause. Where leaving it out
is not enough, delta debugging (ddmin, Zeller and Hildebrandt 2002) finds a set that is: without it the run is
well, and without any part that it tried, it is not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from typing import Any, TypeVar

from safelight.config import UserError, flatten, nearest
from safelight.data.edits import Items
from safelight.engine.distributed import World
from safelight.files import to_json
from safelight.loading.dependencies import products_of, used
from safelight.loading.in_force import InForce
from safelight.loading.recorded import data_of, recipe_of
from safelight.monitor.stop import measured
from safelight.monitor.verdicts import VERDICTS
from safelight.store import listing
from safelight.store.directory import RUN, RunDirectory
from safelight.store.journal_writer import JournalWriter
from safelight.training import fork, start
from safelight.training.progress import Show
from safelight.types import Tell

T = TypeVar("T")
Condition = Callable[[RunDirectory], bool]
OVER = ("edits", "components", "items")
LESS = {"<": float.__lt__, "<=": float.__le__, ">": float.__gt__, ">=": float.__ge__}
NUMBER = re.compile(r"\s*(\S+?)\s*(<=|>=|<|>)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Candidate:
    """What a fork can be without."""

    text: str  # in words
    step: int  # from which on it has an effect
    key: str  # of the recipe; that of an image is data.without
    value: Any  # that an edit set; the name of an image
    before: Any = None  # the value that it replaced


@dataclass
class Bisection:
    """What came of it. forks: by name, whether the run is well without those candidates."""

    over: str
    candidates: int
    cause: list[Candidate] = field(default_factory=list)  # empty where leaving out all of them is not enough
    forks: dict[str, bool] = field(default_factory=dict)


def narrowed(items: Sequence[T], well: Callable[[Sequence[T]], bool]) -> list[T]:
    """A smallest part without which all is well; none where it is not well without all of them.

    well: whether it is without a part. One of N is found in at most ceil(log2 N) + 2 calls.
    """
    known: dict[tuple[int, ...], bool] = {}

    def tried(numbers: Sequence[int]) -> bool:
        key = tuple(numbers)
        if key not in known:
            known[key] = well([items[number] for number in key])
        return known[key]

    left = list(range(len(items)))
    if not items or not tried(left):
        return []
    while len(left) > 1:
        half = left[: len(left) // 2]
        left = half if tried(half) else left[len(half) :]  # the one cause is in the other half
    if not tried(left):
        left = _ddmin(list(range(len(items))), tried)
    return [items[number] for number in left]


def _ddmin(left: list[int], tried: Callable[[Sequence[int]], bool]) -> list[int]:
    parts = 2
    while len(left) > 1:
        bounds = [round(number * len(left) / parts) for number in range(parts + 1)]
        chosen = [left[begin:end] for begin, end in pairwise(bounds)]
        others = [[number for number in left if number not in part] for part in chosen] if parts > 2 else []
        if smaller := next((part for part in chosen if tried(part)), None):
            left, parts = smaller, 2
        elif smaller := next((part for part in others if tried(part)), None):
            left, parts = smaller, max(parts - 1, 2)
        elif parts >= len(left):
            break
        else:
            parts = min(2 * parts, len(left))
    return left


def condition_of(text: str) -> Condition:
    """Whether a run has a verdict, "mode collapse", or a recorded number, "held_out/mean > 0.3".

    The number is the last one recorded. Raises UserError for neither.
    """
    if match := NUMBER.fullmatch(text):
        name, compare, bound = match[1], LESS[match[2]], float(match[3])

        def holds(run: RunDirectory) -> bool:
            for line in reversed(listing.recorded(run)):
                numbers = {key: value for key, value in line.items() if isinstance(value, int | float)}
                numbers |= measured(numbers)
                if name in numbers:
                    return compare(float(numbers[name]), bound)
            raise UserError(f"--verdict {text}: {run.name} has recorded no {name}")

        return holds
    if text not in VERDICTS:
        raise UserError(f'--verdict {text}: is no verdict, no "COLUMN > VALUE" and no FILE.py:FUNCTION'
                        f"{nearest(text, VERDICTS)}")  # fmt: skip

    def judged(run: RunDirectory) -> bool:
        began = (entry.fields for entry in run.journal().of_kind("verdict"))
        return text in listing.verdicts(run) or any(
            entry["name"] == text for entry in began if entry["begins"]
        )

    return judged


def bisect(
    directory: RunDirectory, condition: Condition, over: str, step: int, show: Callable[[], Show], tell: Tell
) -> Bisection:
    """Find what makes a condition hold for a run. Forks of equal names are taken up. Raises UserError.

    step: that forks without components or images begin at; those without edits begin at the first of them.
    """
    if over not in OVER:
        raise UserError(f"--over {over}: is not a valid choice; use {', '.join(OVER)}")
    if not condition(directory):
        raise UserError(f"{directory.name}: is not as --verdict says, so there is no cause to look for")
    base, candidates = _edits(directory) if over == "edits" else _others(directory, over, step)
    if not candidates:
        raise UserError(f"{directory.name}: no settings were changed; use --over components or --over items")
    made = Bisection(over, len(candidates))

    def well(part: Sequence[Candidate]) -> bool:
        if over == "items" and len(part) == len(candidates):
            return True  # nothing would be left to train on
        run = _without(directory, base, candidates, part, over, step, show, tell)
        made.forks[run.name] = not condition(run)
        words = f"without {len(part)} of {len(candidates)} {over}"
        tell(f"{words}: {'it is gone' if made.forks[run.name] else 'it is there'} ({run.name})")
        return made.forks[run.name]

    made.cause = narrowed(candidates, well)
    return made


def _edits(directory: RunDirectory) -> tuple[RunDirectory, list[Candidate]]:
    """The oldest run that is here of those that a run came from, and every key that was changed since."""
    chain = [directory, *listing.ancestors(directory)][::-1]
    ends = [info.parent.step if (info := run.info()).parent else 0 for run in chain[1:]]
    made: list[Candidate] = []
    for number, run in enumerate(chain):
        in_force = InForce.of(run)
        if number:
            before = flatten(InForce.of(chain[number - 1]).recipe_at(ends[number - 1]).tree)
            now = flatten(recipe_of(run).tree)
            changes = {key: value for key, value in now.items() if before.get(key) != value}
            made += _changed(changes, before, ends[number - 1])
        last = ends[number] if number < len(ends) else math.inf
        for edit in run.journal().interventions:
            if edit.step <= last:
                made += _changed(
                    edit.changes, flatten(in_force.recipe_at(max(edit.step - 1, 0)).tree), edit.step
                )
    return chain[0], sorted(made, key=lambda candidate: candidate.step)


def _changed(changes: Mapping[str, Any], before: Mapping[str, Any], step: int) -> list[Candidate]:
    """The keys that had a value before, which they can have again."""
    return [
        Candidate(f"step {step:,}: {key} = {value} (was {before[key]})", step, key, value, before[key])
        for key, value in changes.items()
        if key in before and not key.startswith("about.")
    ]


def _others(directory: RunDirectory, over: str, step: int) -> tuple[RunDirectory, list[Candidate]]:
    recipe = InForce.of(directory).recipe_at(step)
    if over == "components":
        weights = recipe.plan(int(directory.info().facts.data["train"])).weights_at(step)
        return directory, [
            Candidate(f"{name} (weight {weight:g})", step, f"loss.weights.{name}", 0.0, weight)
            for name, weight in weights.items()
            if weight
        ]
    items = Items(data_of(directory, used(recipe, products_of(directory))))
    names = [items.names[number] for number in items.trained.tolist()]
    return directory, [Candidate(name, step, "data.without", name) for name in names]


def _without(
    directory: RunDirectory, base: RunDirectory, candidates: Sequence[Candidate], part: Sequence[Candidate],
    over: str, step: int, show: Callable[[], Show], tell: Tell,
) -> RunDirectory:  # fmt: skip
    """The run without some candidates, trained to its end. Its name says what it is without."""
    left_out = set(map(id, part))
    later: dict[int, dict[str, Any]] = {}
    if over == "edits":
        step = candidates[0].step
        changes = {edit.key: edit.before for edit in reversed(candidates) if edit.step == step}
        for edit in candidates:
            if id(edit) not in left_out:
                (changes if edit.step == step else later.setdefault(edit.step, {}))[edit.key] = edit.value
    elif over == "components":
        changes = {candidate.key: candidate.value for candidate in part}
    else:
        already = recipe_of(directory).data.model_dump().get("without") or ()
        changes = {"data.without": [*already, *(candidate.value for candidate in part)]}
    identity = to_json([base.info().id, step, changes, sorted(later.items())])
    digest = blake2b(identity.encode(), digest_size=4).hexdigest()
    path = directory.path.with_name(f"{directory.name[:180]}-bisect-{digest}")
    if not (path / RUN).exists():
        fork.fork(base, step, changes, directory.path.parent, path.name, tell)
    run = RunDirectory(path)
    if listing.summary(run).status == "finished":
        return run
    with run.lock(), JournalWriter(run.journal_path) as writer:
        known = {edit.id for edit in writer.journal.interventions}
        for at, values in sorted(later.items()):
            if (name := f"bisect-{digest}-{at}") not in known:
                writer.intervene(name, at, values, "bisect")
    return start.resume(run, World(), show())
