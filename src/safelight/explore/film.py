"""Films of a run: specimens through training, and walks from one to the next."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from safelight.config import UserError
from safelight.explore.path import FilmSubject, eased, places
from safelight.explore.shooting import Progress, Shot, Sources, pictures_of, shoot
from safelight.explore.specimens import Specimen, parse_specimen
from safelight.loading.recorded import recipe_of
from safelight.render.film import check_ending, frame, save_film
from safelight.store import checkpoint_files, metrics
from safelight.store.directory import RunDirectory
from safelight.store.frames import ReelReader
from safelight.store.tape import TapeReader
from safelight.types import Tell


@dataclass(frozen=True)
class Making:
    """How a film is made, whatever it shows."""

    out: Path
    fps: float = 30.0
    words: bool = True  # the step in a corner
    how: Mapping[str, Any] | None = None  # keys of [sample] to change
    ema_length: float | None = None  # of another average than that of train.ema
    raw: bool = False  # weights as trained
    on: str | None = None  # where frames are taken at once, see `fanout.pool`
    tell: Tell = lambda line: None
    progress: Progress = lambda stage, done, total: None

    @property
    def part(self) -> Path:
        """Folder in which the frames wait until the film is whole."""
        return self.out.with_name(f"{self.out.name}.part")


@dataclass(frozen=True)
class Film:
    """A film that was made."""

    out: Path
    shots: Sequence[Shot]
    sources: Sources


def through_training(
    directory: RunDirectory,
    ids: Sequence[str],
    making: Making,
    begin: int = 0,
    end: int | None = None,
    every: int | None = None,
) -> Film:
    """Film specimens from step `begin` to step `end`, the last that is recorded by default. Raises UserError.

    ids: those that are filmed live by default. every: steps between two frames; by default the steps of the
    live film where it has all of them, else those of the tape where there is one, else every step; of other
    weights than those of train.ema's average those of checkpoints.
    """
    check_ending(making.out)
    specimens = [parse_specimen(specimen) for specimen in ids or recipe_of(directory).watch.film]
    if not specimens:
        raise UserError(f"{directory.name}: records no live film; name a specimen, such as {begin}.0")
    last = max([metrics.reached(directory.path), *checkpoint_files.list_steps(directory.path)], default=0)
    end = last if end is None else end
    if not 0 <= begin <= end <= last:
        raise UserError(f"steps {begin} to {end}: {directory.name} has recorded the steps 0 to {last}")
    steps = (
        range(begin, end + 1, every)
        if every
        else _recorded(making, directory, specimens, range(begin, end + 1))
    )
    subjects = tuple(FilmSubject(specimen) for specimen in specimens)
    shots = [Shot(number, step, subjects) for number, step in enumerate(steps)]
    return _make(directory, shots, making)


def walk(
    directory: RunDirectory, ids: Sequence[str], making: Making, frames: int = 120, step: int | None = None
) -> Film:
    """Film the way through specimens, with the weights of one step, or from each one's own to the next's.

    Raises UserError.
    """
    check_ending(making.out)
    stops = [parse_specimen(specimen) for specimen in ids]
    if len(stops) < 2:
        raise UserError("walk: name two specimens or more, for example: safelight walk RUN 500.3 500.7")
    if frames < 2:
        raise UserError("walk: --frames must be 2 or more")
    shots = []
    for number, place in enumerate(places(len(stops), frames)):
        start, end, share = stops[place.leg], stops[place.leg + 1], eased(place.share)
        across = start.step + round((end.step - start.step) * share)
        shots.append(Shot(number, across if step is None else step, (FilmSubject(start, end, share),)))
    return _make(directory, shots, making)


def _recorded(
    making: Making, directory: RunDirectory, specimens: Sequence[Specimen], steps: Sequence[int]
) -> Sequence[int]:
    """The steps of a stretch whose frames cost little; all of it where none do."""
    reel = ReelReader(directory.path)
    live = set.intersection(*(set(reel.steps(str(specimen))) for specimen in specimens))
    kept: Sequence[Iterable[int]] = (live, TapeReader(directory.path).steps)
    if making.raw or making.ema_length is not None:
        kept = (checkpoint_files.list_steps(directory.path),)
    for recorded in kept:
        if matches := [step for step in sorted(recorded) if step in steps]:
            return matches
    return steps


def _make(directory: RunDirectory, shots: Sequence[Shot], making: Making) -> Film:
    """Take the shots, put them together, and let go of the single frames."""
    sources = shoot(
        directory, shots, making.part, making.how or {}, making.on, making.tell, making.progress,
        ema_length=making.ema_length, raw=making.raw,
    )  # fmt: skip
    save_film(_frames(shots, making), making.out, making.fps)
    with suppress(OSError):
        shutil.rmtree(making.part)
    return Film(making.out, shots, sources)


def _frames(shots: Sequence[Shot], making: Making) -> Iterator[Image.Image]:
    moving = making.words and len({shot.step for shot in shots}) > 1
    for shot in shots:
        yield frame(pictures_of(making.part, shot), f"step {shot.step:,}" if moving else "")
        making.progress("film", shot.number + 1, len(shots))
