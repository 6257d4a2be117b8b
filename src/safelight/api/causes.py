"""Which training images samples come from, and which are copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from safelight.api import directory_of, silent
from safelight.config import UserError
from safelight.data.source import Progress
from safelight.evaluate.extractors import of_images_alone
from safelight.evaluate.judge import open_judge
from safelight.explore import influence as tracing
from safelight.explore import originals as copying
from safelight.explore.influence import By, Influence
from safelight.explore.originals import Originals
from safelight.render.sheet_file import encode_png
from safelight.report.run_report import write_report
from safelight.run import Run
from safelight.store import results
from safelight.store.durable import mendable, write_bytes
from safelight.types import Tell

if TYPE_CHECKING:
    from safelight.api import Named

PIXELS = "none"  # instead of an extractor: compare pixels alone


def influence(
    run: Named,
    specimen: str,
    *,
    by: By = "whitened",
    checkpoints: int = 3,
    draws: int = 8,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress | None = None,
) -> Influence:
    """Rank the training images by how far they made a sample, named as STEP.DRAW, such as "500.28".

    by: "whitened", what an image adds that others do not, or "tracin", plain products of gradients.
    checkpoints, draws: over which gradients are summed and averaged; more are slower and surer.
    """
    return tracing.influence(
        directory_of(run, runs), specimen, by, checkpoints, draws, progress=progress, tell=tell
    )


def save_sheet(picture: Image.Image, out: Path) -> None:
    """Write a picture as PNG. Raises UserError where it cannot be written."""
    if out.suffix.lower() != ".png":
        raise UserError(f"{out}: unknown output type; use .png")
    with mendable(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, encode_png(picture))


def originals(
    run: Named,
    n: int = 256,
    *,
    features: str | None = None,
    step: int | str | None = None,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress | None = None,
) -> Originals:
    """The training images that n samples are nearest to, the rate of copies, and the images at risk.

    features: as of `Run.evaluate`, or "none" for pixels alone. The result is kept with the run, and its
    report is written anew. changes: of [sample].
    """
    directory = directory_of(run, runs, write=True)
    model = Run(directory, step, tell=tell).model.changed(changes)
    model.require_images()
    extractor = None
    if features != PIXELS:
        pack = model.data.stream(progress).pack
        if features is None and not pack.spec.classes:
            features = of_images_alone(tell)  # any encoder of images does; none is trained for this
        data = model.recipe.data
        extractor = open_judge(features, 0, data, pack, model.device, tell, progress).extractor
    result = copying.originals(model, extractor, n, seed, progress)
    results.store(directory.path, results.ORIGINALS, result.to_dict())
    if not directory.is_locked():
        write_report(directory)
    return result
