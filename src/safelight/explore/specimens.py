"""Specimens: samples that can be named. "16500.28" is draw 28 of step 16500; the latent of
"16500.red-apple-1" was found by a search or a projection at that step, and is kept with the run.

The id and the seed of the run decide latent, conditions and whatever noise sampling takes, on any machine
and at any later time: all are keyed. The weights of its own step make the specimen, those of other steps its
film. specimens/<id>.safetensors is all that the picture of a found one is made from besides the networks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from safelight.config import UserError
from safelight.loading.model import Model
from safelight.randomness import RowDraw
from safelight.store.directory import RunDirectory
from safelight.store.durable import mendable, write_bytes
from safelight.types import DataSpec, Draw, Values

FOLDER = "specimens"
PHASE = "specimen"  # of the keyed draws
SEARCH_PHASE = "search"  # of the keyed draws of a found one's sampler
EXAMPLES = 256  # real items of which one lends its conditions


@dataclass(frozen=True, order=True)
class Specimen:
    """A name of a sample: the step it was found at, the number of its draw there."""

    step: int
    draw: int
    name: str = ""  # of one whose latent was found, not drawn

    def __str__(self) -> str:
        return f"{self.step}.{self.name or self.draw}"


def parse_specimen(text: str) -> Specimen:
    """The specimen of an id. Raises UserError."""
    match = re.fullmatch(r"(\d{1,12})\.(?:(\d{1,9})|([a-z][a-z0-9-]{0,99}))", text)
    if match is None:
        raise UserError(f"specimen {text!r}: expected STEP.DRAW, such as 16500.28")
    return Specimen(int(match[1]), int(match[2] or 0), match[3] or "")


@dataclass(frozen=True, eq=False)
class Start:
    """What one image is made from. Tensors have one row."""

    latent: Tensor  # (1, ...)
    given: Values  # by condition (1, ...)
    present: Tensor  # (1,) bool
    draw: Draw  # for samplers that add noise on their way
    styled: bool = False  # the latent is a style, see types.Styled: ways between are straight


def start_of(specimen: Specimen, model: Model) -> Start:
    """What a specimen is made from.

    Only data with other conditions than classes are opened for it: a real item lends its conditions. Raises
    UserError where there is none.
    """
    if specimen.name:
        return read(model.directory, specimen, model.spec, model.device)
    draw = RowDraw(
        model.recipe.train.seed, specimen.step, PHASE, range(specimen.draw, specimen.draw + 1), model.device
    )
    latent = model.method.latent(draw)
    conditions, given = model.spec.conditions, dict[str, Tensor]()
    if set(conditions) == {"label"}:
        given = {"label": draw.integers("label", model.spec.classes)}
    elif conditions:
        real = model.data.examples(EXAMPLES)
        if not len(real.present):
            raise UserError(f"specimen {specimen}: the data has no item to take its conditions from")
        row = draw.integers("item", len(real.present))
        given = {name: real.given[name][row] for name in conditions}
    return Start(latent, given, torch.full((1,), bool(given), device=model.device), draw)


def develop(start: Start, model: Model) -> Tensor:
    """The image of a start, (1, C, H, W) in model space.

    Alone: in a batch the last bits of an image depend on its company, and a name should mean one picture.
    """
    return model.sample(start.latent, start.given, start.present, start.draw)


def picture_of(start: Start, model: Model) -> NDArray[np.uint8]:
    """The picture of a start, (H, W, C); a transparent one over its background."""
    pixels: NDArray[np.uint8] = model.space.to_pixels(develop(start, model))[0][:, :, :3]
    return pixels


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
    directory: RunDirectory, specimen: Specimen, start: Start, seed: int | None, source: Mapping[str, Any]
) -> None:
    """Keep what a specimen is made from. seed: of `noise`. found: by what. Raises UserError."""
    tensors = {"latent": start.latent, "present": start.present}
    tensors |= {f"given.{name}": value for name, value in start.given.items()}
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    words = json.dumps({"seed": seed, "styled": start.styled, "found": dict(source)}, sort_keys=True)
    path = directory.path / FOLDER / f"{specimen}.safetensors"
    with mendable(path.parent):
        path.parent.mkdir(exist_ok=True)
    write_bytes(path, save(plain, {"safelight": words}))


def read(directory: RunDirectory, specimen: Specimen, spec: DataSpec, device: torch.device) -> Start:
    """What a found specimen is made from. Raises UserError where it was not kept, or is damaged."""
    tensors, words = _opened(directory, specimen)
    given = {
        name: tensors[f"given.{name}"].to(device) for name in spec.conditions if f"given.{name}" in tensors
    }
    latent, present = tensors["latent"].to(device), tensors["present"].to(device)
    return Start(latent, given, present, noise(words["seed"], device), bool(words["styled"]))


def origin(directory: RunDirectory, specimen: Specimen) -> dict[str, Any]:
    """By what a specimen was found."""
    source: dict[str, Any] = _opened(directory, specimen)[1]["found"]
    return source


def _opened(directory: RunDirectory, specimen: Specimen) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = directory.path / FOLDER / f"{specimen}.safetensors"
    if not path.is_file():
        raise UserError(f"specimen {str(specimen)!r}: {directory.name} has no specimen of that name")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["safelight"])
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is damaged; delete it, and search again") from error
