"""What a search found, on disk: sheets, a curve, specimens, and the numbers in result.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safelight.explore import specimens
from safelight.explore.collection import keep_specimens
from safelight.explore.latent_model import LatentModel
from safelight.explore.search.fronts import order
from safelight.explore.search.loop import Outcome
from safelight.explore.search.objectives import Objective
from safelight.explore.search.record import Points
from safelight.explore.search.settings import Search
from safelight.explore.specimens import Specimen
from safelight.render.figure_file import to_png, to_svg
from safelight.render.search_plot import SUMMED, Plane, front_figure, search_figure
from safelight.render.sheet import sheet
from safelight.render.sheet_file import save_png
from safelight.store.durable import write_bytes, write_text
from safelight.store.searches import SearchDirectory

PLACES = 12  # of the sheet of the best through the search


def conclude(
    directory: SearchDirectory,
    query: Search,
    generator: LatentModel,
    objectives: Sequence[Objective],
    usual: Tensor,
    outcome: Outcome,
    way: str,
) -> dict[str, Any]:
    """Draw and keep what was found. Returns what result.json says.

    usual: scores (n, k) of samples of the generator, to compare with.
    """
    record = outcome.record
    best = record.best
    if len(objectives) > 1:  # the front first: the best of each trade
        best = record.front.at_rows(order(record.front.scores)[: query.keep])
    names = [Specimen(generator.model.step, 0, f"{directory.name}-{place + 1}") for place in range(len(best))]
    titles = [objective.name for objective in objectives]
    origins = [
        {"search": directory.name, "scores": dict(zip(titles, scores, strict=True))}
        for scores in best.scores.tolist()
    ]
    ids = keep(generator, best.x, names, origins)
    files = {
        "best": _sheet(directory, generator, best, record_words(best), query.prompt),
        "through": _through(directory, generator, outcome, query.prompt),
        **_curves(directory, objectives, usual, outcome, way),
    }
    standard = record.standard.total(usual)
    result = {
        "name": directory.name,
        "method": way,
        "evaluations": record.evaluations,
        "score": record.score,
        "usual": {"mean": float(standard.mean()), "best": float(standard.max()), "n": len(standard)},
        "objectives": {
            objective.name: {
                "told": objective.description,
                "best": float(record.trail.scores[-1, place]),
                "usual": float(usual[:, place].mean()),
                "usual deviation": float(usual[:, place].std()),
            }
            for place, objective in enumerate(objectives)
        },
        "best_so_far": {str(at): float(outcome.best_so_far[at - 1]) for at in places(record.evaluations)},
        "specimens": ids,
        "files": {name: str(path) for name, path in files.items()},
    }
    if len(objectives) > 1:
        rows = record.front.scores[:, 0].argsort(descending=True, stable=True)
        result["front"] = [
            {title: float(score) for title, score in zip(titles, scores, strict=True)}
            for scores in record.front.scores[rows]
        ]
    directory.end(result)
    return result


def keep(
    generator: LatentModel, points: Tensor, names: Sequence[Specimen], origins: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Keep points (n, d) as specimens of the run. told: by what each was found. Returns their ids."""
    sampled = generator.model.how.model_dump(mode="json")
    for x, specimen, words in zip(points.to(generator.model.device), names, origins, strict=True):
        start = generator.start(generator.space.latents(x[None]))
        specimens.write(
            generator.model.directory, specimen, start, generator.seed, {**words, "sample": sampled}
        )
    ids = [str(specimen) for specimen in names]
    keep_specimens(generator.model.directory, ids, generator.tell)
    return ids


def places(evaluations: int, count: int = PLACES) -> list[int]:
    """Some numbers of evaluations, geometrically apart, the first and the last among them."""
    return sorted({round(at) for at in np.geomspace(1, evaluations, count).tolist()})


def record_words(points: Points) -> list[str]:
    """The scores of points as letterings."""
    return [" ".join(f"{value:.3g}" for value in row) for row in points.scores.tolist()]


def _sheet(
    directory: SearchDirectory,
    generator: LatentModel,
    points: Points,
    words: Sequence[str],
    prompt: str | None,
) -> Path:
    images = np.stack([generator.picture_at(x) for x in points.x])
    caption = ": ".join(part for part in ("the best", prompt) if part)
    path = directory.path / "best.png"
    save_png(sheet(images, min(len(images), 8), frames=words, caption=caption), path)
    return path


def _through(
    directory: SearchDirectory, generator: LatentModel, outcome: Outcome, prompt: str | None
) -> Path:
    """The best after some numbers of evaluations, geometrically apart."""
    trail = outcome.record.trail
    shown: list[tuple[int, int]] = []
    for at in places(outcome.record.evaluations):
        row = int((trail.at <= at).sum()) - 1
        if row >= 0 and (not shown or shown[-1][1] != row):
            shown.append((at, row))
    shown = shown or [(int(trail.at[0]), 0)]
    if shown[-1][1] != len(trail) - 1:
        shown.append((outcome.record.evaluations, len(trail) - 1))
    rows = torch.tensor([row for _, row in shown])
    totals = outcome.record.standard.total(trail.scores[rows]).tolist()
    words = [f"{int(trail.at[row]):,}: {total:.3g}" for row, total in zip(rows.tolist(), totals, strict=True)]
    images = np.stack([generator.picture_at(trail.x[row]) for row in rows.tolist()])
    caption = "evaluation: the best so far" + (f" of: {prompt}" if prompt else "")
    path = directory.path / "through.png"
    save_png(sheet(images, min(len(images), 6), frames=words, caption=caption), path)
    return path


def _curves(
    directory: SearchDirectory, objectives: Sequence[Objective], usual: Tensor, outcome: Outcome, way: str
) -> dict[str, Path]:
    standard = outcome.record.standard
    name = objectives[0].name if len(objectives) == 1 else SUMMED
    figure = search_figure({way: [outcome.best_so_far]}, name, float(standard.total(usual).max()))
    write_bytes(directory.path / "curve.png", to_png(figure))
    write_text(directory.path / "curve.svg", to_svg(figure))
    files = {"curve": directory.path / "curve.png"}
    if len(objectives) == 2:
        plane = Plane(
            (objectives[0].name, objectives[1].name),
            usual.double().numpy(),
            outcome.record.front.scores.double().numpy(),
        )
        write_bytes(directory.path / "front.png", to_png(front_figure(plane)))
        files["front"] = directory.path / "front.png"
    return files
