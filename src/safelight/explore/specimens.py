"""Specimens: samples that can be named. "16500.28" is draw 28 of step 16500; "16500.red-apple-1" was found

by a search or a projection at that step, and its latent is kept with the run.

The id and the seed of the run decide latent, conditions and whatever noise sampling takes, on any machine
and at any later time: all are keyed. Which weights a specimen is drawn with is another matter: those of its
own step make the specimen, those of other steps its film.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import safetensors
import torch
from pydantic import BaseModel
from safetensors.torch import save
from torch import Tensor

from safelight.config import UserError
from safelight.randomness import RowDraw
from safelight.store.directory import RunDirectory
from safelight.store.durable import mendable, write_bytes
from safelight.types import Batch, DataSpec, Draw, Method, Nets, Values

PHASE = "specimen"  # of the keyed draws


EXAMPLES = 256  # real items of which one lends its conditions


@dataclass(frozen=True, order=True)
class Specimen:
    """A name of a sample: the step it was found at, the number of its draw there."""

    step: int
    draw: int
    name: str = ""  # of one whose latent was found, not drawn

    def __str__(self) -> str:
        return f"{self.step}.{self.name or self.draw}"


def specimen(text: str) -> Specimen:
    """The specimen of an id. Raises UserError."""
    found = re.fullmatch(r"(\d{1,12})\.(?:(\d{1,9})|([a-z][a-z0-9-]{0,99}))", text)
    if found is None:
        raise UserError(f"specimen {text!r}: expected STEP.DRAW, such as 16500.28")
    return Specimen(int(found[1]), int(found[2] or 0), found[3] or "")


@dataclass(frozen=True, eq=False)
class Start:
    """What one image is made from. Tensors have one row."""

    latent: Tensor  # (1, ...)
    given: Values  # by condition (1, ...)
    present: Tensor  # (1,) bool
    draw: Draw  # for samplers that add noise on their way
    styled: bool = False  # the latent is a style, see types.Styled: ways between are straight


def start_of(
    one: Specimen,
    method: Method,
    spec: DataSpec,
    seed: int,
    device: torch.device,
    examples: Callable[[int], Batch],
) -> Start:
    """What a specimen is made from.

    method: that has built its networks. seed: of the run. examples: as many real items as there are, up to a
    number; called only where the data have other conditions than classes. Raises UserError where there are
    none.
    """
    draw = RowDraw(seed, one.step, PHASE, range(one.draw, one.draw + 1), device)
    latent = method.latent(draw)
    given: dict[str, Tensor] = {}
    if set(spec.conditions) == {"label"}:
        given = {"label": draw.integers("label", spec.classes)}
    elif spec.conditions:
        real = examples(EXAMPLES)
        if not len(real.present):
            raise UserError(f"specimen {one}: no real item lends it its conditions")
        row = draw.integers("item", len(real.present))
        given = {name: real.given[name][row] for name in spec.conditions}
    return Start(latent, given, torch.full((1,), bool(given), device=device), draw)


@torch.no_grad()
def develop(
    start: Start,
    method: Method,
    nets: Nets,
    how: BaseModel,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Tensor:
    """The image of a start, (1, C, H, W) in model space.

    Alone: in a batch the last bits of an image depend on its company, and a name should mean one picture.
    """
    with autocast():
        return method.sample(nets, start.latent, start.given, start.present, start.draw, how).float()


# Latents that were found and not drawn: by a search, by projecting an image. specimens/<id>.safetensors
# Such a file is all that a picture is made from besides the networks, so that the specimen is filmed,
# walked to
# and traversed like any other.

FOLDER = "specimens"


SEARCH_PHASE = "search"  # of the keyed draws of a sampler


@dataclass(frozen=True)
class Still:
    """A `Draw` without noise: what an image was projected to holds none."""

    rows: int
    device: torch.device

    def normal(self, name: str, *shape: int) -> Tensor:
        """Zeros (rows, *shape)."""
        return torch.zeros(self.rows, *shape, device=self.device)

    def uniform(self, name: str, *shape: int, host: bool = False) -> Tensor:
        """A half everywhere (rows, *shape)."""
        return torch.full((self.rows, *shape), 0.5, device="cpu" if host else self.device)

    def integers(self, name: str, high: int, *shape: int) -> Tensor:
        """Zeros (rows, *shape)."""
        return torch.zeros(self.rows, *shape, dtype=torch.int64, device=self.device)


def noise(seed: int | None, device: torch.device) -> RowDraw | Still:
    """The randomness of a found sample's sampler, one row. seed: None for none."""
    return Still(1, device) if seed is None else RowDraw(seed, 0, SEARCH_PHASE, range(1), device)


def write(
    directory: RunDirectory, one: Specimen, start: Start, seed: int | None, told: Mapping[str, Any]
) -> None:
    """Keep what a specimen is made from. seed: of `noise`. told: by what it was found. Raises UserError."""
    tensors = {"latent": start.latent, "present": start.present}
    tensors |= {f"given.{name}": value for name, value in start.given.items()}
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    words = json.dumps({"seed": seed, "styled": start.styled, "found": dict(told)}, sort_keys=True)
    path = directory.path / FOLDER / f"{one}.safetensors"
    with mendable(path.parent):
        path.parent.mkdir(exist_ok=True)
    write_bytes(path, save(plain, {"safelight": words}))


def read(directory: RunDirectory, one: Specimen, spec: DataSpec, device: torch.device) -> Start:
    """What a found specimen is made from. Raises UserError where it was not kept, or is damaged."""
    tensors, words = _opened(directory, one)
    given = {
        name: tensors[f"given.{name}"].to(device) for name in spec.conditions if f"given.{name}" in tensors
    }
    latent, present = tensors["latent"].to(device), tensors["present"].to(device)
    return Start(latent, given, present, noise(words["seed"], device), bool(words["styled"]))


def told(directory: RunDirectory, one: Specimen) -> dict[str, Any]:
    """By what a specimen was found."""
    found: dict[str, Any] = _opened(directory, one)[1]["found"]
    return found


def _opened(directory: RunDirectory, one: Specimen) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = directory.path / FOLDER / f"{one}.safetensors"
    if not path.is_file():
        raise UserError(f"specimen {str(one)!r}: {directory.name} keeps none of that name")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["safelight"])
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is damaged; delete it, and search again") from error
