"""Which checkpoints are held, and why: any step should be reached by as short a replay as the disk allows.

The state after step 0 is a function of the recipe, so that a replay may start there; a fork starts at the
checkpoint that it was forked at. While a run grows over its budget, the checkpoint goes whose two gaps make
the shortest one, the earliest of several. So older stretches thin out by halves: no gap is longer than twice
the shortest that so many checkpoints could have, and none that was let go is missed later.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from safelight.config import UserError, check, override
from safelight.store import checkpoint_files, metrics
from safelight.store.checkpoint_files import Checkpoint
from safelight.store.directory import RunDirectory, names
from safelight.store.durable import mendable, remove_tree
from safelight.store.journal_writer import JournalWriter
from safelight.store.size import words


@dataclass(frozen=True)
class Held:
    """A checkpoint on disk."""

    step: int
    bytes: int
    why: tuple[str, ...]  # it is held: "newest", "pinned as best", "run calmer was forked here"; or "spacing"
    surplus: bool = False  # whether the budget lets it go


@dataclass(frozen=True)
class Bound:
    """The longest replay that reaching a step may take, among the steps recorded so far."""

    steps: int
    seconds: float  # as they took when they were recorded
    first: int = 0  # the step that they begin at: that of a fork
    newest: int = 0  # step recorded or saved last

    @property
    def text(self) -> str:
        """ "any step by recomputing at most 499 (12 s when they were trained)"."""
        whose = f" from {self.first:,} on" if self.first else ""
        if self.newest <= self.first:
            return f"step {self.first:,}, where it begins" if self.first else "no step recorded yet"
        if self.steps == 0:
            return f"every step{whose} has a checkpoint"
        took = f"{self.seconds:,.2f} s when they were trained"
        return f"any step{whose} by recomputing at most {self.steps:,} ({took})"


@dataclass(frozen=True)
class Freed:
    """What thinning a run to a budget lets go."""

    checkpoints: tuple[Held, ...]
    damaged: int  # bytes of the checkpoints that were put aside
    left: int  # bytes of those that stay
    bound: Bound  # on replays, afterwards


def spaced(steps: Sequence[int], fixed: Collection[int], most: int, first: int = 0) -> list[int]:
    """The steps to hold so that gaps are short: at most `most`, but always those of `fixed`.

    first: where a replay may start without a checkpoint.
    """
    held = sorted(set(steps))
    while len(held) > most:
        bounds = [first, *held, held[-1]]
        merged = [(bounds[at + 2] - bounds[at], step) for at, step in enumerate(held) if step not in fixed]
        if not merged:
            break
        held.remove(min(merged)[1])
    return held


def longest(held: Iterable[int], first: int = 0) -> int:
    """Steps of the longest replay: to the step just before a checkpoint, from the one before it."""
    return max([0, *(after - before - 1 for before, after in pairwise([first, *sorted(held)]))])


def bound(held: Iterable[int], seconds: Mapping[int, float], first: int = 0) -> Bound:
    """The longest replay, in steps and in seconds. seconds: that each recorded step took."""
    steps = sorted(held)
    newest = max([first, *steps, *(step + 1 for step in seconds)])
    ends = [*steps, newest + 1]  # what was recorded after the newest checkpoint is recomputed from there
    timed = sorted(seconds)
    passed = [0.0, *accumulate(seconds[step] for step in timed)]  # before each; gaps may hold any number
    took = (
        passed[bisect_left(timed, after - 1)] - passed[bisect_left(timed, before)]
        for before, after in pairwise([first, *ends])
        if after > before
    )
    return Bound(longest(ends, first), max(took, default=0.0), first, newest)


def bound_of(
    directory: RunDirectory, steps: Sequence[int] | None = None, seconds: Mapping[int, float] | None = None
) -> Bound:
    """The longest replay in a run with checkpoints of these steps, by default those it has.

    seconds: that each recorded step took, where they are known already.
    """
    if seconds is None:
        seconds = {int(line["step"]): float(line["seconds"]) for line in metrics.merged(directory.path)}
    held = checkpoint_files.list_steps(directory.path) if steps is None else steps
    return bound(held, seconds, first_of(directory))


def kept(directory: RunDirectory, section: Checkpoint, each: int) -> list[int]:
    """Steps of the checkpoints that the budget holds. each: bytes of one. Raises UserError."""
    steps = checkpoint_files.list_steps(directory.path)
    if len(steps) * each <= section.budget:
        return steps
    fixed = reasons(directory, section.keep)
    return spaced(steps, fixed, section.budget // each, first_of(directory))


def held(directory: RunDirectory, section: Checkpoint) -> list[Held]:
    """Every checkpoint with its size and why it is there, and which of them the budget lets go."""
    fixed = reasons(directory, section.keep)
    sizes = {
        step: _bytes(checkpoint_files.directory(directory.path, step))
        for step in checkpoint_files.list_steps(directory.path)
    }
    left = set(kept(directory, section, max(sizes.values(), default=1)))
    return [Held(step, size, fixed.get(step, ("spacing",)), step not in left) for step, size in sizes.items()]


def plan(directory: RunDirectory, section: Checkpoint) -> Freed:
    """What `free` would let go. Raises UserError."""
    there = held(directory, section)
    left = [checkpoint for checkpoint in there if not checkpoint.surplus]
    return Freed(
        tuple(checkpoint for checkpoint in there if checkpoint.surplus),
        damaged=sum(_bytes(path) for path in _damaged(directory.path)),
        left=sum(checkpoint.bytes for checkpoint in left),
        bound=bound_of(directory, [checkpoint.step for checkpoint in left]),
    )


def free(directory: RunDirectory, section: Checkpoint) -> Freed:
    """Thin a run that nobody writes to a budget, and delete what was put aside. Raises UserError."""
    with directory.lock(), JournalWriter(directory.journal_path) as writer:
        planned = plan(directory, section)
        doomed = [checkpoint.step for checkpoint in planned.checkpoints]
        if doomed or planned.damaged:
            writer.append("note", {"text": f"thinned to {words(section.budget)}", "steps": doomed})
        checkpoint_files.prune(directory.path, set(checkpoint_files.list_steps(directory.path)) - set(doomed))
        for path in _damaged(directory.path):
            remove_tree(path)
    return planned


def pin(directory: RunDirectory, name: str, step: int) -> None:
    """Give a checkpoint of a run that nobody writes a name, by which it is never let go. Raises UserError."""
    if name == checkpoint_files.BEST or not re.fullmatch(r"[a-z][a-z0-9-]{0,60}", name):
        raise UserError(f"pin {name!r}: use small letters, digits and hyphens, a letter first; "
                        f"{checkpoint_files.BEST} is what evaluations rate best")  # fmt: skip
    if step not in (steps := checkpoint_files.list_steps(directory.path)):
        kept = ", ".join(map(str, steps))
        raise UserError(f"{directory.name}: has no checkpoint of step {step} to pin (kept: {kept})")
    with directory.lock(), JournalWriter(directory.journal_path) as writer:
        checkpoint_files.pin(directory.path, name, checkpoint_files.Pin(step, "by hand", {}), writer)


def section_of(directory: RunDirectory) -> Checkpoint:
    """[checkpoint] of a run, with every intervention so far. Raises UserError."""
    tree = override(directory.recipe_tree(), directory.journal().changes_at(math.inf))
    return check(Checkpoint, tree.get("checkpoint", {}), "checkpoint")


def first_of(directory: RunDirectory) -> int:
    """The first of a run's own steps; a replay may start there."""
    parent = directory.info().parent
    return parent.step if parent else 0


def reasons(directory: RunDirectory, newest: int) -> dict[int, tuple[str, ...]]:
    """Why checkpoints are never thinned, by step; of those that are there and have a reason.

    newest: how many of the latest are among them. Raises UserError for a damaged run or pins.
    """
    steps = checkpoint_files.list_steps(directory.path)
    info = directory.info()
    whys = [(step, "newest") for step in steps[-newest:]]
    whys += [
        (pin.step, f"pinned as {name}") for name, pin in checkpoint_files.read_pins(directory.path).items()
    ]
    whys += [(first_of(directory), "where it begins")] if info.parent or info.facts.init else []
    whys += [(step, f"{name} was forked here") for name, step in _forks(directory.path.parent, info.id)]
    return {step: tuple(why for at, why in whys if at == step) for step in steps
            if any(at == step for at, _ in whys)}  # fmt: skip


def _forks(runs: Path, run: str) -> list[tuple[str, int]]:
    """Names of the runs that were forked from one, by its id, and at which step."""
    forks = []
    for name in names(runs):
        with suppress(UserError):  # a damaged neighbour says nothing
            parent = RunDirectory(runs / name).info().parent
            if parent is not None and parent.run == run:
                forks.append((name, parent.step))
    return forks


def _damaged(run: Path) -> list[Path]:
    """Checkpoints that were put aside."""
    return sorted((run / checkpoint_files.FOLDER).glob("*.bad*"))


def _bytes(folder: Path) -> int:
    with mendable(folder):
        return sum(path.stat().st_size for path in folder.iterdir())
