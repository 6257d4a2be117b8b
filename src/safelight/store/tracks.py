"""Snapshots of the power-function averages at regular steps: averages of other lengths are made from them.

One file each, tracks/<step>.safetensors, in half precision (as Karras 2024 keeps them): whole or absent, with
a digest of its tensors. They outlive checkpoints. A step that is trained again replaces its own by the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from safelight import files
from safelight.config import UserError
from safelight.store.checkpoint import digest
from safelight.store.durable import mendable, write_bytes

COUNT = 16  # in a run


def is_due(step: int, steps: int) -> bool:
    """Whether a snapshot is taken after `step` of `steps` steps."""
    return step % max(1, round(steps / COUNT)) == 0


def save(folder: Path, step: int, tracks: Mapping[str, Tensor]) -> None:
    """Keep the tracks after a step. Raises UserError where the disk cannot."""
    kept = {name: _half(value.detach().cpu().contiguous()) for name, value in tracks.items()}
    data = safetensors.torch.save(kept, {"digest": digest({"tracks": kept})})
    with mendable(folder):
        folder.mkdir(exist_ok=True)
    write_bytes(folder / f"{step:08d}.safetensors", data, name="tracks")


def steps(folder: Path) -> list[int]:
    """Steps of which there is a snapshot, increasing."""
    paths = folder.glob("[0-9]*.safetensors")
    return sorted(int(path.stem) for path in paths if re.fullmatch(r"[0-9]{8,15}", path.stem))


def load(folder: Path, step: int) -> dict[str, Tensor]:
    """The tracks of a step, in half precision. Raises UserError for a file that is damaged."""
    path = folder / f"{step:08d}.safetensors"
    with mendable(path):
        files.opened(path, links=False).close()  # safetensors would follow a link, or wait for a pipe
    try:
        with safetensors.safe_open(path, "pt") as file:
            tracks = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            known = (file.metadata() or {}).get("digest")
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it") from error
    if digest({"tracks": tracks}) != known:
        raise UserError(f"{path}: is damaged (its digest does not match); remove it")
    return tracks


def _half(value: Tensor) -> Tensor:
    """In half precision, unless a number is too large for it."""
    half = value.to(torch.float16)
    return half if bool(half.isfinite().all()) else value
