"""A person as the judge: a sheet of candidates, what is picked from it, and the next sheet bred from that.

The journal holds the picks, a line a sheet, and all else follows from them and the seed: a command that is
repeated, or was killed, loses and doubles nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.config import UserError
from safelight.data.source import Progress
from safelight.explore.latent_model import LatentModel
from safelight.explore.search.objectives import PICK, check
from safelight.explore.search.optimisers import Candidates
from safelight.explore.search.result import keep
from safelight.explore.search.run import open_latent_model
from safelight.explore.search.settings import SearchRequest, name_of, settings_of
from safelight.explore.search.taste import Taste
from safelight.explore.specimens import FOLDER, Specimen
from safelight.render.sheet import sheet
from safelight.render.sheet_file import save_png
from safelight.store import searches
from safelight.store.directory import RunDirectory
from safelight.store.searches import SearchDirectory
from safelight.types import Tell

SHEET = 24  # candidates, where nothing is said
SHOWN = 48  # of all that was picked, the last ones
NONE = "none"


def pick(
    directory: RunDirectory,
    request: SearchRequest,
    picked: str | None,
    tell: Tell = lambda line: None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Take the picks from a sheet, if any, and draw the next one. Returns what result.json says.

    picked: "2.3,2.7", of sheet 2 the third and the seventh; "2.none". Raises UserError.
    """
    if request.method != "auto" or request.generations is not None or request.budget is not None:
        raise UserError("--objective pick: has no budget; leave out --method, --generations, --budget")
    query = replace(request, population=request.population or SHEET, generations=1).search()
    check(query.objectives, query.prompt)
    generator = open_latent_model(directory, request, query, tell, progress)
    settings = settings_of(query, PICK, generator, [])
    place = searches.directory(directory.path, request.name or name_of(query, settings))
    with place.begun(settings):
        taste = Taste(Candidates(generator.space, query.population, 1, query.seed))
        before = [line["picked"] for line in place.lines()]
        for rows in before:
            taste.pick(rows)
        if picked is not None and (rows := _new(picked, before, query.population)) is not None:
            _keep(place, generator, taste, rows)
            place.append({"picked": rows})
            before.append(rows)
            taste.pick(rows)
        result = _result(place, generator, taste, before, query.prompt, progress)
        place.end(result)
    return {**result, "folder": str(place.path)}


def read_picks(text: str, population: int) -> tuple[int, list[int]]:
    """The sheet and the rows, from 0, of "2.3,2.7" or "2.none". Raises UserError."""
    matches = [re.fullmatch(rf"(\d{{1,6}})\.(\d{{1,6}}|{NONE})", part.strip()) for part in text.split(",")]
    marks = [match.groups() for match in matches if match]
    numbers = [int(number) for _, number in marks if number != NONE]
    alone = len(numbers) == len(marks) or len(marks) == 1  # none, and nothing beside it
    one_sheet = len({on for on, _ in marks}) == 1
    valid = len(set(numbers)) == len(numbers) and all(1 <= number <= population for number in numbers)
    if len(marks) < len(matches) or not (alone and one_sheet and valid):
        raise UserError(
            f"--picked {text}: expected numbers of one sheet, 1 to {population}, such as 2.3,2.7, or 2.{NONE}"
        )
    return int(marks[0][0]), [number - 1 for number in numbers]


def _new(text: str, before: Sequence[list[int]], population: int) -> list[int] | None:
    """The picks from the newest sheet; None where they were taken before. Raises UserError."""
    number, rows = read_picks(text, population)
    newest = len(before) + 1
    if number == newest:
        return rows
    if not 1 <= number < newest:
        raise UserError(f"--picked {text}: there is no sheet {number} yet; the newest is sheet {newest}")
    if sorted(before[number - 1]) != sorted(rows):
        was = ", ".join(ids(number, before[number - 1])) or NONE
        raise UserError(
            f"--picked {text}: sheet {number} has its picks already ({was}); pick from sheet {newest}, or "
            "start again under another --name"
        )
    return None


def ids(number: int, rows: Sequence[int]) -> list[str]:
    """What candidates of a sheet are called on it."""
    return [f"{number}.{row + 1}" for row in rows]


def _specimens(place: SearchDirectory, step: int, number: int, rows: Sequence[int]) -> list[Specimen]:
    """What picks are called among the specimens of the run."""
    return [Specimen(step, 0, f"{place.name}-{number}-{row + 1}") for row in rows]


def _keep(place: SearchDirectory, generator: LatentModel, taste: Taste, rows: Sequence[int]) -> None:
    names = _specimens(place, generator.model.step, taste.sheet, rows)
    origins = [{"search": place.name, "picked": label} for label in ids(taste.sheet, rows)]
    keep(generator, taste.points[list(rows)], names, origins)


def _result(
    place: SearchDirectory,
    generator: LatentModel,
    taste: Taste,
    before: Sequence[list[int]],
    prompt: str | None,
    progress: Progress | None,
) -> dict[str, Any]:
    step = generator.model.step
    specimens = [
        str(specimen)
        for number, rows in enumerate(before, 1)
        for specimen in _specimens(place, step, number, rows)
    ]
    named = [label for number, rows in enumerate(before, 1) for label in ids(number, rows)]
    files = {"sheet": _sheet(place, generator, taste, prompt, progress)}
    if specimens:
        files["picked"] = place.path / "picked.png"
        folder = generator.model.directory.path / FOLDER
        pictures = [_pixels(folder / f"{specimen}.png") for specimen in specimens[-SHOWN:]]
        caption = "picked, sheet by sheet" + (f": {prompt}" if prompt else "")
        save_png(sheet(np.stack(pictures), frames=named[-SHOWN:], caption=caption), files["picked"])
    return {
        "name": place.name,
        "method": PICK,
        "sheet": taste.sheet,
        "candidates": ids(taste.sheet, range(len(taste.points))),
        "picked": [ids(number, rows) for number, rows in enumerate(before, 1)],
        "specimens": specimens,
        "files": {name: str(path) for name, path in files.items()},
    }


def _sheet(
    place: SearchDirectory,
    generator: LatentModel,
    taste: Taste,
    prompt: str | None,
    progress: Progress | None,
) -> Path:
    """The newest sheet, drawn unless it was."""
    path = place.path / f"sheet-{taste.sheet}.png"
    if not path.exists():
        images = []
        for done, x in enumerate(taste.points, 1):
            images.append(generator.picture_at(x))
            if progress:
                progress("candidates", done, len(taste.points))
        caption = f"sheet {taste.sheet}" + (f": {prompt}" if prompt else "")
        frames = ids(taste.sheet, range(len(images)))
        save_png(sheet(np.stack(images), min(8, len(images)), frames=frames, caption=caption), path)
    return path


def _pixels(path: Path) -> NDArray[np.uint8]:
    """A specimen's picture (H, W, C)."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
