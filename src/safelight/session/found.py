"""Latents that were found and not drawn: by a search, by projecting an image. specimens/<id>.safetensors.

Such a file is all that a picture is made from besides the networks, so that the specimen is filmed, walked to
and traversed like any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from safelight.config import UserError
from safelight.draw import RowDraw
from safelight.explore.specimen import Specimen, Start
from safelight.store.durable import mendable, write_bytes
from safelight.store.run import RunDirectory
from safelight.types import DataSpec

FOLDER = "specimens"
PHASE = "search"  # of the keyed draws of a sampler


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
    return Still(1, device) if seed is None else RowDraw(seed, 0, PHASE, range(1), device)


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
