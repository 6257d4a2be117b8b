"""An evaluation in plain values: each metric with its spread and floor, and all the numbers depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any


@dataclass(frozen=True)
class Result:
    """A metric of samples."""

    value: float
    spread: float | None = None  # standard deviation over subsets, of a metric that has one
    floor: float | None = None  # the same metric, real images against real images


@dataclass(frozen=True)
class Evaluation:
    """Metrics of the samples of a run at a step.

    basis: every fact the numbers depend on besides the weights, in words. Only numbers of equal bases are
    comparable.
    """

    step: int
    weights: str  # digest of the checkpoint, empty where there is none
    extractor: str  # "classifier"
    results: Mapping[str, Result]  # by name: "FD-classifier", "KID-classifier", "precision", ...
    basis: Mapping[str, str]
    floor: str  # which images the floor was measured on

    @property
    def name(self) -> str:
        """What it is stored as: step, extractor, and a digest of the basis."""
        words = json.dumps(dict(self.basis), sort_keys=True).encode()
        return f"{self.step:08d}-{self.extractor}-{blake2b(words, digest_size=4).hexdigest()}"

    @property
    def description(self) -> str:
        """The basis and the floor in one line."""
        facts = [f"{name} {words}" for name, words in self.basis.items()]
        return "; ".join([*facts, f"floor {self.floor}"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`. Raises KeyError or TypeError for anything else."""
        results = {name: Result(**result) for name, result in fields["results"].items()}
        return cls(**{**fields, "results": results})
