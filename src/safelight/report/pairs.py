"""A run and its fork share every draw: what they differ in, number by number and picture by picture.

With the same change forked under several seeds i, the paired differences d_i = f_i - r_i have the variance
Var(f) + Var(r) - 2 Cov(f, r); runs of independent seeds would differ with Var(f) + Var(r). The quotient of
the two is how many times as many seeds an unpaired comparison needs for the same error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from safelight.config import UserError
from safelight.render.page import Block, Drawing, Notes, ReportTable, Text
from safelight.render.sheet import side_by_side
from safelight.render.sheet_file import read_sheet
from safelight.render.wording import number
from safelight.report.basis import NumberTable, worded
from safelight.report.facts import RunFacts
from safelight.report.settings import SEED, differences

RULE = (
    "Paired: fork minus the run it was forked from, which shares every draw; ± is the standard deviation "
    "over seeds. Independent: the standard deviation that runs of different seeds would differ with, "
    "sqrt(Var(fork) + Var(run)). Times: the quotient of the variances, how many times as many seeds a "
    "comparison without pairs needs."
)
ALONE = "One pair: fork the same change under other seeds for the variance of these differences."


@dataclass(frozen=True)
class PairedNumber:
    """A number's differences, fork minus run."""

    name: str
    differences: tuple[float, ...]  # by pair
    deviation: float  # over pairs; NaN of one
    independent: float  # of runs of other seeds
    times: float  # the variance of independent runs in that of pairs

    @classmethod
    def of(cls, name: str, runs: Sequence[float], forks: Sequence[float]) -> PairedNumber:
        """From the values of the runs and of their forks, pair by pair."""
        r, f = np.asarray(runs, float), np.asarray(forks, float)
        paired = float(np.std(f - r, ddof=1)) if len(r) > 1 else math.nan
        independent = math.sqrt(np.var(f, ddof=1) + np.var(r, ddof=1)) if len(r) > 1 else math.nan
        times = (independent / paired) ** 2 if paired else math.nan
        return cls(name, tuple((f - r).tolist()), paired, independent, times)


@dataclass(frozen=True)
class Pairs:
    """Forks of one change at one step, each with the run it was forked from."""

    change: str
    step: int
    pairs: tuple[tuple[str, str], ...]  # run, fork
    numbers: tuple[PairedNumber, ...]


def pairs(runs: Sequence[RunFacts], tables: Iterable[tuple[str, NumberTable]]) -> tuple[Pairs, ...]:
    """Every fork beside its run, by what was changed. tables: numbers that may be compared, named."""
    by_id = {run.id: run for run in runs if run.id}
    groups: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for fork in runs:
        run = by_id.get(fork.parent.run) if fork.parent else None
        if fork.parent and run and run is not fork:
            groups.setdefault((_change(run, fork), fork.parent.step), []).append((run.name, fork.name))
    kept = list(tables)
    return tuple(Pairs(*key, tuple(names), tuple(_numbers(names, kept))) for key, names in groups.items())


def _change(run: RunFacts, fork: RunFacts) -> str:
    changed = [d for d in differences((run, fork)) if d.role != "watching" and d.key != SEED]
    edits = [f"{key} = {worded(value)} at {edit.step}" for edit in fork.interventions
             for key, value in edit.changes.items()]  # fmt: skip
    return ", ".join([*(f"{d.key} = {d.values[fork.name]}" for d in changed), *edits]) or "nothing"


def _numbers(
    names: Sequence[tuple[str, str]], tables: Sequence[tuple[str, NumberTable]]
) -> Iterable[PairedNumber]:
    for title, table in tables:
        for column in table.columns:
            rows = {row.run: row.numbers for row in column.rows}
            for name in column.names:
                values = {run: row[name].value for run, row in rows.items() if name in row}
                both = [(values[a], values[b]) for a, b in names if a in values and b in values]
                if both and np.isfinite(both).all():
                    yield PairedNumber.of(f"{title}{name}", *zip(*both, strict=True))


def blocks(
    groups: Sequence[Pairs], runs: Mapping[str, RunFacts], names: Mapping[str, Sequence[str]]
) -> list[Block]:
    """Pictures from the same noises with maps of their differences, and the numbers.

    names: conditions that take turns on the sheets, by run.
    """
    made: list[Block] = []
    for place, group in enumerate(groups, start=1):
        step = f"from step {group.step:,}" if group.step else "from the start"
        made.append(Text(f"{group.change}, {step}: {', '.join(f'{b} against {a}' for a, b in group.pairs)}."))
        run, fork = (runs[name] for name in group.pairs[0])
        made += _pictures(run, fork, names.get(run.name, ()), f"pair-{place}")
        several = len(group.pairs) > 1
        head = ("number", "fork - run", *(("±", "independent ±", "times") if several else ()))
        rows = tuple(
            (each.name, number(float(np.mean(each.differences))),
             *((number(each.deviation), number(each.independent), number(each.times)) if several else ()))
            for each in group.numbers
        )  # fmt: skip
        if rows:
            made += [
                ReportTable(head, rows, 1, "Paired differences"),
                Text(RULE if several else ALONE, quiet=True),
            ]
    return made


def _pictures(run: RunFacts, fork: RunFacts, names: Sequence[str], title: str) -> list[Block]:
    """The last sheets of a step that both have, with a row of |a - b|, its largest white."""
    sheets = {sheet.step: sheet for sheet in run.sheets}
    both = [(sheets[sheet.step], sheet) for sheet in fork.sheets if sheet.step in sheets]
    if not both:
        return []
    try:
        a, b = (read_sheet(sheet.path) for sheet in both[-1])
    except UserError as error:
        return [Notes((f"Not shown: {error}",))]
    if a.shape != b.shape:
        return []
    apart = difference_map(a, b)
    picture = side_by_side([(run.name, a), (fork.name, b), ("difference", apart)], names)
    share = float(np.mean(np.abs(a.astype(float) - b)) / 255)
    caption = (
        f"After step {both[-1][0].step:,}: the same noises and conditions in every column; the difference is "
        f"|{run.name} - {fork.name}|, white where it is largest; in the mean over all pixels {share:.2%}."
    )
    return [Drawing(title, caption, picture)]


def difference_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b| of uint8 images (N, H, W, C), scaled so that the largest is 255; black where all are equal."""
    apart = np.abs(a.astype(np.int16) - b)
    scaled: np.ndarray = np.round(apart * (255 / max(int(apart.max()), 1))).astype(np.uint8)
    return scaled
