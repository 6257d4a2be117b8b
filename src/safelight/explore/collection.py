"""Contact sheets of specimens, and the collection of a run: those that somebody wanted to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from safelight.config import UserError
from safelight.explore.specimens import FOLDER, Specimen, origin, parse_specimen, picture_of, start_of
from safelight.loading.model import Model
from safelight.loading.replay import Replay
from safelight.render.sheet import sheet
from safelight.render.sheet_file import save_png
from safelight.store import checkpoint_files, sealed
from safelight.store.directory import RunDirectory
from safelight.store.durable import mendable, write_bytes
from safelight.store.journal import utc_now
from safelight.types import Tell


@dataclass(frozen=True)
class CollectionEntry:
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
) -> tuple[list[str], Model]:
    """Draw specimens of a step, from draw `first` on, each over its id. Raises UserError."""
    model = Replay(directory, tell).rounded(step).changed(how)
    specimens = [Specimen(step, first + number) for number in range(count)]
    images = np.stack([picture_of(start_of(specimen, model), model) for specimen in specimens])
    ids = [str(specimen) for specimen in specimens]
    save_png(sheet(images, frames=ids, caption=f"{directory.name}, step {step:,}"), out)
    return ids, model


def keep_specimens(
    directory: RunDirectory, ids: Sequence[str], tell: Tell = lambda line: None
) -> list[CollectionEntry]:
    """Add specimens, with their pictures, to the run's collection. Raises UserError.

    A file each: a run that trains meanwhile is not disturbed.
    """
    replay, folder, entries = Replay(directory, tell), directory.path / FOLDER, []
    for specimen in sorted(map(parse_specimen, ids)):
        model = replay.rounded(specimen.step)
        sample = model.how.model_dump(mode="json")
        latent = origin(directory, specimen) if specimen.name else {}
        entry = CollectionEntry(str(specimen), utc_now(), model.source, model.verdict.verdict, sample, latent)
        pixels = picture_of(start_of(specimen, model), model)
        save_png(
            Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), folder / f"{specimen}.png"
        )
        write_bytes(folder / f"{specimen}.json", sealed.pretty(asdict(entry)))
        entries.append(entry)
    return entries


def collection(directory: RunDirectory) -> list[CollectionEntry]:
    """The specimens that were kept, by step and draw. Raises UserError where one is damaged."""
    folder = directory.path / FOLDER
    with mendable(folder):
        paths = list(folder.glob("[0-9]*.json")) if folder.exists() else []
    return sorted(
        (sealed.read_as(path, CollectionEntry) for path in paths), key=lambda entry: parse_specimen(entry.id)
    )


def picture(directory: RunDirectory, id: str) -> Path:
    """Where the picture of a kept specimen is."""
    return directory.path / FOLDER / f"{id}.png"


def newest(directory: RunDirectory) -> int:
    """Step of the newest checkpoint. Raises UserError where there is none."""
    steps = checkpoint_files.list_steps(directory.path)
    if not steps:
        raise UserError(f"{directory.name}: has no checkpoint yet; give --step, or train it further")
    return steps[-1]
