"""Contact sheets of specimens, and the collection of a run: those that somebody wanted to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from safelight.config import UserError
from safelight.explore import specimens as found
from safelight.explore.camera import Camera, FilmSubject
from safelight.explore.specimens import Specimen, specimen
from safelight.loading.replay import Reached
from safelight.render.sheet import sheet
from safelight.render.sheet_file import save_png
from safelight.store import checkpoint_files, sealed
from safelight.store.directory import RunDirectory
from safelight.store.durable import mendable, write_bytes
from safelight.store.journal import utc_now
from safelight.types import Tell


@dataclass(frozen=True)
class Kept:
    """A specimen of a run's collection, <id>.json; its picture is <id>.png beside it."""

    id: str
    kept: str  # when, ISO 8601, UTC
    source: str  # where the weights came from: tape, checkpoint, replay
    verdict: str  # how sure it is that they are those the run had
    sample: Mapping[str, Any]  # [sample] as it was in force
    found: Mapping[str, Any] = field(default_factory=dict)  # by what, where its latent was not drawn


def contact_sheet(
    directory: RunDirectory,
    out: Path,
    step: int,
    count: int = 30,
    first: int = 0,
    how: Mapping[str, Any] | None = None,
    tell: Tell = lambda line: None,
) -> tuple[list[str], Reached]:
    """Draw specimens of a step, from draw `first` on, each over its id. Raises UserError."""
    camera = Camera(directory, tell, how)
    reached = camera.at(step)
    specimens = [Specimen(reached.step, first + number) for number in range(count)]
    images = np.stack([camera.take(reached, FilmSubject(one)) for one in specimens])
    ids = [str(one) for one in specimens]
    save_png(sheet(images, frames=ids, caption=f"{directory.name}, step {reached.step:,}"), out)
    return ids, reached


def keep_specimens(directory: RunDirectory, ids: Sequence[str], tell: Tell = lambda line: None) -> list[Kept]:
    """Add specimens, with their pictures, to the run's collection. Raises UserError.

    A file each: a run that trains meanwhile is not disturbed.
    """
    camera = Camera(directory, tell)
    kept = []
    for one in sorted(map(specimen, ids)):
        reached = camera.at(one.step)
        sample = reached.recipe.sample.model_dump(mode="json")
        how = found.told(directory, one) if one.name else {}
        own = Kept(str(one), utc_now(), reached.source, reached.verdict.verdict, sample, how)
        pixels = camera.take(reached, FilmSubject(one))
        folder = directory.path / found.FOLDER
        save_png(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), folder / f"{one}.png")
        write_bytes(folder / f"{one}.json", sealed.pretty(asdict(own)))
        kept.append(own)
    return kept


def collection(directory: RunDirectory) -> list[Kept]:
    """The specimens that were kept, by step and draw. Raises UserError where one is damaged."""
    folder = directory.path / found.FOLDER
    with mendable(folder):
        paths = list(folder.glob("[0-9]*.json")) if folder.exists() else []
    return sorted((sealed.read_as(path, Kept) for path in paths), key=lambda own: specimen(own.id))


def picture(directory: RunDirectory, id: str) -> Path:
    """Where the picture of a kept specimen is."""
    return directory.path / found.FOLDER / f"{id}.png"


def newest(directory: RunDirectory) -> int:
    """Step of the newest checkpoint. Raises UserError where there is none."""
    steps = checkpoint_files.list_steps(directory.path)
    if not steps:
        raise UserError(f"{directory.name}: has no checkpoint yet; say --step, or train it further first")
    return steps[-1]
