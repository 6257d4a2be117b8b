"""Open runs, and look at what they generate: specimens, films, walks, searches, projections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.api import directory_of, folder_of, silent
from safelight.config import UserError
from safelight.data.source import Progress
from safelight.evaluate.evaluation import Evaluation
from safelight.explore import collection
from safelight.explore import film as films
from safelight.explore.collection import CollectionEntry
from safelight.explore.film import Film, Making
from safelight.explore.projection import ProjectionSettings, projected
from safelight.explore.samples import require_place
from safelight.explore.samples import shared_seed as shared_seed
from safelight.explore.search.picking import pick
from safelight.explore.search.run import run_search
from safelight.explore.search.settings import SearchRequest
from safelight.explore.search.split import read_split, run_split
from safelight.export.browser import moments_of, portable
from safelight.export.networks import require_new as require_new
from safelight.loading.model import guide_place
from safelight.loading.recorded import recipe_of, spec_of
from safelight.recipe import GUIDE
from safelight.report.run_report import save_report, write_report
from safelight.run import Run
from safelight.run import live as watch
from safelight.samplers.generate import require_known
from safelight.store import results
from safelight.store.directory import RunDirectory
from safelight.types import Tell

if TYPE_CHECKING:
    from safelight.api import Named
    from safelight.notebook import Widget


def open_run(
    run: str | Path,
    *,
    step: int | str | None = None,
    ema_length: float | None = None,
    raw: bool = False,
    runs: str | Path | None = None,
) -> Run:
    """Open a run at a checkpoint, by step or name, such as "best"; the newest by default.

    ema_length, raw: which weights samples use, see `Run`.
    """
    return Run.open(run, folder_of(runs), step, ema_length, raw=raw)


def live(run: Named, *, runs: str | Path | None = None) -> Widget:
    """`Run.live`, without reading networks; a run that has not begun is waited for, by its name.

    In one cell `safelight.live("first")`, in the next `safelight.train("digits", name="first")`.
    """
    place = folder_of(runs) / run if isinstance(run, str) and Path(run).name == run else None
    return watch(directory_of(run, runs) if place is None or place.exists() else RunDirectory(place))


def report(
    run: Named,
    out: str | Path | None = None,
    *,
    with_model: bool = False,
    moments: int = 20,
    runs: str | Path | None = None,
    tell: Tell = silent,
) -> Path:
    """Write report.md and report.html into the run, or the latter alone to `out`; returns its path.

    with_model: the page also draws samples, with the weights of so many moments of training; it needs `out`.
    """
    directory = directory_of(run, runs)
    if out is None:
        if with_model:
            raise UserError("--with-model: add --out FILE.html; such a page is too large for a run")
        return write_report(directory)
    place = Path(out)
    if place.suffix != ".html" or place.is_dir():
        raise UserError(f"{place}: a page is a file that ends in .html")
    if not with_model:
        return save_report(directory, place)
    return save_report(directory, place, portable(directory, moments_of(directory, moments, tell), tell))


def require_samples(
    directory: RunDirectory, out: Path, changes: Mapping[str, Any], conditions: Mapping[str, str]
) -> None:
    """Raises UserError for samples that cannot be made or written, before networks are read."""
    require_place(out)
    recipe = recipe_of(directory)
    if guide := getattr(recipe.sampling(changes), GUIDE, None):
        guide_place(directory, guide)
    require_known(spec_of(directory), conditions, recipe.data.attribute_range)


def store_evaluation(run: Run, evaluation: Evaluation) -> Path:
    """Store an evaluation with its run; the report is rewritten, unless the run trains and will do it."""
    path = results.store(run.directory.path, evaluation.name, evaluation.to_dict())
    if not run.directory.is_locked():
        write_report(run.directory)
    return path


def specimens(
    run: Named,
    out: str | Path | None = None,
    *,
    step: int | None = None,
    count: int = 30,
    first: int = 0,
    changes: Mapping[str, Any] | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Draw a sheet of named samples: {"out", "step", "ids", "source", "verdict"}.

    out: a .png, RUN-STEP.png by default. step: of the weights, the newest checkpoint's by default. first:
    number of the first sample.
    """
    directory = directory_of(run, runs)
    if out is not None and Path(out).suffix != ".png":
        raise UserError(f"{out}: a sheet of specimens is a .png")
    step = collection.newest(directory) if step is None else step
    path = Path(out or f"{directory.name}-{step}.png")
    ids, model = collection.contact_sheet(directory, path, step, count, first, changes, tell)
    return {"out": str(path), "step": model.step, "ids": ids, "source": model.source,
            "verdict": model.verdict.verdict}  # fmt: skip


def keep(
    run: Named, ids: Sequence[str], *, runs: str | Path | None = None, tell: Tell = silent
) -> list[CollectionEntry]:
    """Add specimens, such as "16500.28", to the collection of a run."""
    return collection.keep_specimens(directory_of(run, runs), ids, tell)


def kept(run: Named, *, runs: str | Path | None = None) -> list[tuple[CollectionEntry, Path]]:
    """The collection of a run: each specimen and its picture."""
    directory = directory_of(run, runs)
    return [
        (specimen, collection.picture(directory, specimen.id))
        for specimen in collection.collection(directory)
    ]


def film(
    run: Named,
    ids: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    begin: int = 0,
    end: int | None = None,
    every: int | None = None,
    fps: float = 30.0,
    number: bool = True,
    changes: Mapping[str, Any] | None = None,
    ema_length: float | None = None,
    raw: bool = False,
    on: str | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress = lambda what, done, total: None,
) -> Film:
    """Film specimens from step `begin` to step `end`, the last by default, as .mp4, .webp, .gif or PNGs.

    ids: those filmed live by default. out: RUN.mp4 by default. every: steps between frames. number: write
    the step in a corner. ema_length, raw: other weights than the average of train.ema, of which alone there
    are live films and tapes. on: where frames are computed at once, such as
    "local:4", see `fanout.pool`.
    """
    directory = directory_of(run, runs)
    place = Path(out or f"{directory.name}.mp4")
    making = Making(place, fps, number, changes, ema_length, raw, on, tell, progress)
    return films.through_training(directory, ids, making, begin, end, every)


def walk(
    run: Named,
    ids: Sequence[str],
    out: str | Path | None = None,
    *,
    frames: int = 120,
    step: int | None = None,
    fps: float = 30.0,
    number: bool = True,
    changes: Mapping[str, Any] | None = None,
    ema_length: float | None = None,
    raw: bool = False,
    on: str | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress = lambda what, done, total: None,
) -> Film:
    """Film a walk from specimen to specimen, on the sphere of latents.

    step: of the weights; by default they go from each specimen's step to the next one's. out: RUN-walk.mp4 by
    default. The rest as of `film`.
    """
    directory = directory_of(run, runs)
    place = Path(out or f"{directory.name}-walk.mp4")
    making = Making(place, fps, number, changes, ema_length, raw, on, tell, progress)
    return films.walk(directory, ids, making, frames, step)


def search(
    run: Named,
    *objectives: str,
    prompt: str | None = None,
    picked: str | None = None,
    split: str | None = None,
    seeds: int = 3,
    changes: Mapping[str, Any] | None = None,
    conditions: Mapping[str, Any] | None = None,
    on: str | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Search for latents that score best; returns what result.json holds.

    objectives: "text" (the default), "realism", "reference=IMAGE", "FILE.py:FUNCTION", or "pick" with picked,
    such as "1.3,1.7". split, seeds: compare splits of one budget, such as "100x1000,200x500"; on: where they
    are searched at once, see `fanout.pool`. settings: method, population, generations, budget, encoder,
    keep, step, seed, name.
    """
    words = tuple(f"{name}={value}" for name, value in (conditions or {}).items())
    chosen = objectives or ("text",)
    wish = SearchRequest(objectives=chosen, prompt=prompt, conditions=words, sample=changes or {}, **settings)
    if picked and "pick" not in chosen:
        raise UserError("--picked: only with --objective pick")
    directory = directory_of(run, runs)
    if split:
        return run_split(directory, wish, read_split(split, wish.budget), seeds, tell, progress, on)
    if on:
        raise UserError("--on: only with --split; a single search has no parts")
    if "pick" in chosen:
        return pick(directory, wish, picked, tell, progress)
    return run_search(directory, wish, tell, progress)


def project(
    run: Named,
    image: str | Path,
    out: str | Path | None = None,
    *,
    steps: int = 200,
    conditions: Mapping[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
    step: int | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Find the latent whose image is closest to a given image, by Adam, and keep it as a specimen.

    out: picture of image, start and projection; RUN-project.png by default.
    """
    directory = directory_of(run, runs)
    settings = ProjectionSettings(Path(image), steps, conditions or {}, changes or {}, step)
    place = Path(out or f"{directory.name}-project.png")
    return projected(directory, settings, place, tell, progress)
