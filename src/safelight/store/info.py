"""run.json: what a run is, fixed when it is made. Written by safelight, but also read from strangers.

Fields that are not known are passed over: a newer minor format adds some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from safelight import files
from safelight.store import sealed

Count = Annotated[int, Field(ge=0, le=files.MOST, strict=True)]
Shape = Annotated[
    list[Annotated[int, Field(ge=1, le=1 << 16, strict=True)]], Field(min_length=3, max_length=3)
]


@dataclass(frozen=True)
class Parent:
    """The checkpoint that a fork started from."""

    run: str  # id of the run
    step: Count
    digest: str


@dataclass(frozen=True)
class Facts:
    """What the weights of a run depend on besides its recipe and journal."""

    data: Mapping[str, Any]  # fingerprint of the data,
    code: Mapping[str, Any]  # of the code,
    environment: Mapping[str, Any]  # and of what computed the first session
    execution: Mapping[str, str]  # choices a resumed run keeps: precision, memory format
    products: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of other trainings, by key
    init: Mapping[str, Any] = field(default_factory=dict)  # where the first weights are from, and "state":
    # the digest of checkpoint 0, which holds them


@dataclass(frozen=True)
class RunInfo:
    """What run.json says."""

    id: str  # 32 hexadecimal digits; stays when the directory is renamed
    created: str  # ISO 8601, UTC
    recipe: str  # name of the recipe it was made from
    recipe_sha256: str  # of recipe.toml
    steps: Count  # planned when it was made
    facts: Facts
    parent: Parent | None = None
    format: str = "1.0"  # of the first version, which did not write it


class _Condition(TypedDict):
    kind: str
    size: Count
    names: list[str]


class _Latents(TypedDict):
    shape: Shape
    shift: list[float]
    scale: list[float]


class _Data(TypedDict, total=False):
    """The form of what is said of the data; which of it is needed depends on who reads it."""

    name: str
    fingerprint: str
    train: Count
    held_out: Count
    left_out: Count
    shape: Shape
    conditions: dict[str, _Condition]
    mask_shares: list[float]
    latents: _Latents
    buckets: list[list[Count]]


def read(path: Path) -> RunInfo:
    """run.json at a path. Raises UserError naming what is damaged or newer than this safelight."""
    info = sealed.read_as(path, RunInfo)
    sealed.conform(path, _Data, info.facts.data)
    return replace(info, facts=replace(info.facts, data=sealed.Fields.of(info.facts.data, path)))
