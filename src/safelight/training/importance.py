"""What a search of settings has shown: which keys matter, and what became of every arm."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safelight.render.page import PageSection, ReportTable, Text
from safelight.render.wording import count, number
from safelight.report.comparison_page import Written, write_comparison
from safelight.store.directory import RUN, RunDirectory
from safelight.training.arms import Arm, Space
from safelight.training.search import Searched

LEAST = 8  # arms below which nothing is said of keys
SHUFFLES = 19  # the largest of so many is passed by chance once in twenty
SHOWN = 8  # arms whose runs are compared
RULE = (
    "Importance: the share of the variance of {metric} over the ranges that a key accounts for by itself "
    "(functional ANOVA over a random forest, Hutter et al. 2014), of the {arms} arms that came to step "
    "{step}. By chance: the largest of {shuffles} importances of the same key where the values are "
    "shuffled among the arms; a key that does not pass it may matter or not."
)


def importances(
    space: Space, tried: Sequence[Mapping[str, Any]], values: Sequence[float]
) -> dict[str, tuple[float, float]]:
    """For each key its importance, and the most that chance gives it; {} where that cannot be told."""
    keys = [axis.key for axis in space.axes if len({str(each[axis.key]) for each in tried}) > 1]
    if len(values) < LEAST or len(set(values)) == 1 or not keys:
        return {}
    real = _shares(space, keys, tried, values)
    shuffled = [
        _shares(space, keys, tried, np.random.default_rng(seed).permutation(values).tolist())
        for seed in range(SHUFFLES)
    ]
    return {key: (real[key], max(shares[key] for shares in shuffled)) for key in keys}


def _shares(
    space: Space, keys: Sequence[str], tried: Sequence[Mapping[str, Any]], values: Sequence[float]
) -> dict[str, float]:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
    from optuna.importance import FanovaImportanceEvaluator

    kinds: dict[str, BaseDistribution] = {
        axis.key: CategoricalDistribution(axis.choices)
        if axis.choices
        else FloatDistribution(axis.low, axis.high, log=axis.log)
        for axis in space.axes
        if axis.key in keys
    }
    texts = {axis.key: {str(axis.value(text)): text for text in axis.choices} for axis in space.axes}
    study = optuna.create_study()
    for each, value in zip(tried, values, strict=True):
        params = {key: texts[key][str(each[key])] if texts[key] else float(each[key]) for key in keys}
        study.add_trial(optuna.create_trial(params=params, distributions=kinds, value=float(value)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = FanovaImportanceEvaluator(n_trees=32, seed=0)
        shares = evaluator.evaluate(study, params=list(keys))
    return {key: float(share) for key, share in shares.items()}


def at_widest(done: Searched) -> tuple[int, list[Arm]]:
    """The last rung to which LEAST arms came with a finite value, and those; the first where none is."""
    best: tuple[int, list[Arm]] = 0, []
    for place in range(max((len(arm.rungs) for arm in done.arms), default=0)):
        came = [
            arm for arm in done.arms
            if place < len(arm.rungs) and math.isfinite(dict(arm.course).get(arm.rungs[place], math.nan))
        ]  # fmt: skip
        if not place or len(came) >= LEAST:
            best = place, came
    return best


def section(done: Searched) -> PageSection:
    """The search as a part of a page."""
    place, came = at_widest(done)
    space = done.space
    values = [dict(arm.course)[arm.rungs[place]] for arm in came]
    shares = importances(space, [arm.tried for arm in came], values)
    blocks: list[Any] = []
    if shares:
        ordered = sorted(shares.items(), key=lambda item: -item[1][0])
        rows = tuple((key, f"{share:.0%}", f"{most:.0%}", "yes" if share > most else "within chance")
                     for key, (share, most) in ordered)  # fmt: skip
        head = ("key", "importance", "by chance up to", "more than chance")
        step = count(came[0].rungs[place])
        blocks += [
            ReportTable(head, rows, 1),
            Text(RULE.format(metric=space.metric, arms=len(came), step=step, shuffles=SHUFFLES), quiet=True),
        ]
    else:
        blocks.append(Text(f"Fewer than {LEAST} arms differ: which key matters is not known yet."))
    arms = tuple(
        (*(str(arm.tried[axis.key]) for axis in space.axes), ": ".join(filter(None, (arm.fate, arm.problem))),
         count(arm.steps), number(arm.value) if arm.course else "–")
        for arm in ranked(done)
    )  # fmt: skip
    titles = (*(axis.key for axis in space.axes), "what became of it", "steps", space.metric)
    blocks.append(ReportTable(titles, arms, len(space.axes) + 1, title="Arms, the best first"))
    return PageSection("Search", tuple(blocks))


def ranked(done: Searched) -> list[Arm]:
    """Finished arms by value, then the others by how far they came and by value."""
    sign = 1 if done.space.less else -1
    rest = [arm for arm in done.arms if arm.fate != "finished"]
    rest.sort(key=lambda arm: (-arm.steps, sign * arm.value if math.isfinite(arm.value) else math.inf))
    return [*done.best, *rest]


def write_search(done: Searched, runs: Path) -> Written | None:
    """The comparison of the best arms, with the search before it; None for fewer than two runs."""
    names = {cell.name: cell.label for arm in ranked(done)[:SHOWN] for cell in arm.cells}
    there = [RunDirectory(runs / name) for name in names if (runs / name / RUN).is_file()]
    if len(there) < 2:
        return None
    recipe = done.arms[0].cells[0].recipe.name
    title = f"{recipe}: search of {', '.join(axis.key for axis in done.space.axes)}"
    return write_comparison(there, runs, done.space.name, title, names, (section(done),))
