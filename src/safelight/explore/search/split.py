"""One budget of evaluations, split between candidates and generations in several ways, by seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data.source import Progress
from safelight.explore.search.objectives import PICK
from safelight.explore.search.run import run_search
from safelight.explore.search.settings import SearchRequest
from safelight.fanout import each
from safelight.loading.prepare import pool_of
from safelight.render.figure_file import to_png, to_svg
from safelight.render.search_plot import SUMMED, search_figure
from safelight.store import searches
from safelight.store.directory import RunDirectory
from safelight.store.durable import write_bytes, write_text
from safelight.store.searches import SearchDirectory
from safelight.terminal import paced
from safelight.types import Tell

SEEDS = 3


@dataclass(frozen=True)
class SplitCell:
    """A split: candidates of a generation, and generations."""

    population: int
    generations: int

    def __str__(self) -> str:
        return f"{self.population}x{self.generations}"


def read_split(text: str, budget: int | None) -> list[SplitCell]:
    """The cells of "100x1000,200x500", all of one budget. Raises UserError."""
    matches = [re.fullmatch(r"(\d{1,7})x(\d{1,7})", part.strip()) for part in text.split(",")]
    cells = [SplitCell(int(match[1]), int(match[2])) for match in matches if match]
    if len(cells) < len(matches) or not all(cell.population and cell.generations for cell in cells):
        raise UserError(f"--split {text}: expected POPULATIONxGENERATIONS, such as 100x1000,200x500")
    if len(set(cells)) < len(cells):
        raise UserError(f"--split {text}: names a split twice")
    total = budget or cells[0].population * cells[0].generations
    for cell in cells:
        if cell.population * cell.generations != total:
            count = cell.population * cell.generations
            raise UserError(f"--split {cell}: makes {count:,} evaluations, not {total:,} as every split must")
    return cells


def run_split(
    directory: RunDirectory,
    request: SearchRequest,
    cells: Sequence[SplitCell],
    seeds: int = SEEDS,
    tell: Tell = lambda line: None,
    progress: Progress | None = None,
    on: str | None = None,
) -> dict[str, Any]:
    """Search with every split and seed; those that have ended are not made again.

    on: where several are made at once, see `fanout.pool`; by default one after the other, here. Returns a row
    for each split. Cut off, the same words go on. Raises UserError.
    """
    if request.population is not None or request.generations is not None:
        raise UserError("--split: states population and generations; leave out --population, --generations")
    if PICK in request.objectives:
        raise UserError("--split: compares scores, and --objective pick has none")
    searched: list[tuple[SplitCell, SearchRequest]] = []
    for cell in cells:
        for seed in range(request.seed, request.seed + seeds):
            named = f"{request.name}-{cell}-{seed}" if request.name else None
            size = replace(request, population=cell.population, generations=cell.generations, budget=None)
            searched.append((cell, replace(size, seed=seed, keep=1, name=named)))
    results: list[dict[str, Any]] = []
    if on:
        results = _at_once(directory, [request for _, request in searched], on, tell, progress)
    else:
        evaluations = cells[0].population * cells[0].generations
        for place, (_, seeded) in enumerate(searched):
            within = _within(progress, place * evaluations, len(searched) * evaluations)
            results.append(run_search(directory, seeded, tell, within))
    curves: dict[str, list[NDArray[np.float64]]] = {}
    for (cell, _), found in zip(searched, results, strict=True):
        curves.setdefault(str(cell), []).append(_best_so_far(Path(found["folder"])))
    name = f"{request.name}-split" if request.name else _name([str(result["name"]) for result in results])
    return _concluded(searches.directory(directory.path, name), cells, results, curves)


def _at_once(
    directory: RunDirectory, requests: Sequence[SearchRequest], on: str, tell: Tell, progress: Progress | None
) -> list[dict[str, Any]]:
    path, results = directory.path.absolute(), dict[int, dict[str, Any]]()
    show = progress or paced(tell)
    with pool_of(directory, on, len(requests)) as workers:
        tasks = [(RunDirectory(path), request) for request in requests]
        results |= each(workers, run_search, tasks, what="searches", progress=show)
    return [results[place] for place in range(len(requests))]


def _within(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress of one search as that of all."""
    if progress is None:
        return None

    def report(stage: str, done: int, _: int) -> None:
        if stage == "evaluations":
            progress(stage, before + done, total)

    return report


def _best_so_far(folder: Path) -> NDArray[np.float64]:
    """The best score after every evaluation of a search."""
    totals = [total for line in SearchDirectory(folder).lines() for total in line["totals"]]
    return np.maximum.accumulate(np.array(totals, np.float64))


def _name(searched: Sequence[str]) -> str:
    """By what the searches are called, with one digest for all of theirs."""
    digest = blake2b(" ".join(searched).encode(), digest_size=3).hexdigest()
    return f"{searched[0].rpartition('-')[0]}-split-{digest}"


def _concluded(
    place: SearchDirectory,
    cells: Sequence[SplitCell],
    results: Sequence[dict[str, Any]],
    curves: dict[str, list[NDArray[np.float64]]],
) -> dict[str, Any]:
    """The table and its figure, in a folder beside the searches'."""
    rows = []
    for cell in cells:
        last = np.array([curve[-1] for curve in curves[str(cell)]])
        rows.append(
            {
                "population": cell.population,
                "generations": cell.generations,
                "evaluations": len(curves[str(cell)][0]),
                "best": float(last.mean()),
                "spread": float(last.std(ddof=1)) if len(last) > 1 else None,
                "by seed": last.tolist(),
            }
        )
    first = results[0]
    titles = list(first["objectives"])
    score = titles[0] if len(titles) == 1 else SUMMED
    usual = float(np.mean([result["usual"]["best"] for result in results]))
    figure = search_figure(curves, score, usual)
    result = {
        "name": place.name,
        "method": first["method"],
        "rows": rows,
        "usual": first["usual"],
        "searches": [search["name"] for search in results],
        "files": {"curve": str(place.path / "curve.png")},
    }
    with place.begun({"split": [str(cell) for cell in cells], "searches": result["searches"]}):
        write_bytes(place.path / "curve.png", to_png(figure))
        write_text(place.path / "curve.svg", to_svg(figure))
        place.end(result)
    return result
