"""Every step of a run recomputed: the stretches between its checkpoints, at once where there are workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from safelight.config import UserError
from safelight.data.source import Progress
from safelight.fanout import each
from safelight.loading.model import ReplayVerdict
from safelight.loading.prepare import pool_of
from safelight.loading.replay import Replay
from safelight.store import checkpoint_files
from safelight.store.directory import RunDirectory

WORST = ("diverged", "not recorded", "environment differs")


def replay_through(
    directory: RunDirectory,
    begin: int | None,
    to: int,
    on: str | None = None,
    progress: Progress = lambda what, done, total: None,
) -> ReplayVerdict:
    """Recompute every step from the checkpoint before `begin`, or from a run's first, to `to`.

    on: where stretches between checkpoints are recomputed at once, see `fanout.pool`; by default one after
    another, here. The verdict is that of the worst of them. Raises UserError.
    """
    parent, saved = directory.info().parent, checkpoint_files.list_steps(directory.path)
    first = parent.step if parent else 0
    begin = first if begin is None else begin
    if not first <= begin < to:
        raise UserError(f"--from {begin}: {directory.name} has steps from {first}, and --step is {to}")
    start = max([first, *(step for step in saved if step <= begin)])
    stretches = list(pairwise([start, *(step for step in saved if start < step < to), to]))
    verdicts: list[ReplayVerdict] = []
    progress("steps", 0, to - start)
    for verdict in _verdicts(directory, stretches, on):
        verdicts.append(verdict)
        progress("steps", sum(verdict.to - verdict.start for verdict in verdicts), to - start)
    return _together(sorted(verdicts, key=lambda verdict: verdict.to))


def _verdicts(
    directory: RunDirectory, stretches: Sequence[tuple[int, int]], on: str | None
) -> Iterator[ReplayVerdict]:
    path = directory.path.absolute()
    if not on:
        yield from (recompute(path, *stretch) for stretch in stretches)
        return
    with pool_of(directory, on, len(stretches)) as workers:
        for _, verdict in each(workers, recompute, [(path, *stretch) for stretch in stretches]):
            yield verdict


def recompute(path: Path, begin: int, to: int) -> ReplayVerdict:
    """One stretch. Raises UserError."""
    return Replay(RunDirectory(path)).through(begin, to)


def _together(verdicts: Sequence[ReplayVerdict]) -> ReplayVerdict:
    """Of stretches in their order: the worst word, the first step of a doubt, all reasons."""
    words = [verdict.verdict for verdict in verdicts]
    worst = next((word for word in WORST if word in words), words[-1])
    doubts = [verdict.step for verdict in verdicts if verdict.verdict == worst and verdict.step is not None]
    why = dict.fromkeys(reason for verdict in verdicts for reason in verdict.why)
    checked = sum(verdict.checked for verdict in verdicts)
    return ReplayVerdict(
        worst, verdicts[-1].to, verdicts[0].start, checked, min(doubts, default=None), tuple(why)
    )
