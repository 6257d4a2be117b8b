"""Metrics that `safelight evaluate` stored with a run, each with what it needs to be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safelight.evaluate.evaluation import Evaluation
from safelight.store import evaluations


@dataclass(frozen=True)
class Measured:
    """One metric of one evaluation of a run."""

    name: str  # "FD-classifier", "KID-classifier", "coverage"
    value: float
    step: int  # of the checkpoint
    basis: Mapping[str, str]  # what it was measured with: extractor and hash, n, reference, sampler, ...
    floor: float = math.nan  # the same metric, real images against real images
    spread: float = math.nan  # standard deviation over subsets, of a metric that has one


def read_measured(run: Path) -> tuple[tuple[Measured, ...], tuple[str, ...]]:
    """The stored evaluations of a run, by step, and a line for each that cannot be read."""
    stored, problems = evaluations.read_all(run)
    found: list[Measured] = []
    for plain in stored:
        try:
            own = Evaluation.of(plain)
        except (AttributeError, LookupError, TypeError) as error:
            problems.append(f"{run / evaluations.FOLDER}: an evaluation is not of this version ({error!r})")
            continue
        found += [
            Measured(name, one.value, own.step, own.basis, _known(one.floor), _known(one.spread))
            for name, one in own.results.items()
        ]
    return tuple(sorted(found, key=lambda one: one.step)), tuple(problems)


def _known(value: float | None) -> float:
    return math.nan if value is None else value
