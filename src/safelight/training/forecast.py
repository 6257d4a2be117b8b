"""What a training will take of the disk, told before its first step, and refused where it cannot fit."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from safelight.config import UserError
from safelight.engine.state import State
from safelight.recipe import Recipe
from safelight.store import tracks
from safelight.store.size import words
from safelight.types import DataSpec, Method

KEPT_FREE = 0.92  # of a GPU's memory that tensors can use; the rest is the driver's, and fragments
NAME = 88  # bytes with which a safetensors file tells one tensor
LINE = 500  # bytes of metrics a step
STILL, MOVED = 1.5, 0.5  # bytes of a tape for each weight: in a frame that stands alone, in another


@dataclass(frozen=True)
class Forecast:
    """Bytes by kind, at most and about; what a family draws besides its samples is not among them."""

    checkpoints: int
    tracks: int
    tape: int
    films: int
    sheets: int
    metrics: int

    @property
    def total(self) -> int:
        """Bytes of all kinds."""
        return sum(asdict(self).values())

    @property
    def text(self) -> str:
        """ "about 1.2 GB (checkpoints 1.1 GB, tape 80 MB)": the kinds that are more than a thousandth."""
        kinds = {name: size for name, size in asdict(self).items() if size * 1000 > self.total}
        listed = ", ".join(f"{name} {words(size)}" for name, size in kinds.items())
        return f"about {words(self.total)} ({listed})"


def forecast(recipe: Recipe, state: State, spec: DataSpec, steps: int) -> Forecast:
    """What a run of `steps` steps takes of the disk."""
    groups = state.groups()
    each = sum(_bytes(tensors.values()) for tensors in groups.values())
    section, tape = recipe.checkpoint, recipe.tape
    made = -(-steps // section.every)
    held = min(made, max(section.budget // each, section.keep) + 1)  # the newest, before an older one goes
    frames = -(-steps // tape.every) + 1 if tape.every else 0
    averaged = [tensor for name, net in state.averages.networks.items()
                if name in (tape.networks or state.averages.networks)
                for tensor in net.state_dict().values()]  # fmt: skip
    weights = sum(tensor.numel() for tensor in averaged)
    alone = -(-frames // tape.keyframe)
    channels, height, width = spec.shape
    filmed = (-(-steps // recipe.watch.film_every) + 1) * len(recipe.watch.film)
    sheets = -(-steps // recipe.watch.every) + len(recipe.watch.epochs)
    return Forecast(
        checkpoints=held * each,
        tracks=(tracks.COUNT + 1) * _bytes(state.averages.tracks().values()) // 2,
        tape=round(weights * (alone * STILL + (frames - alone) * MOVED)),
        films=filmed * channels * height * width,
        sheets=sheets * recipe.watch.images * channels * height * width,
        metrics=steps * LINE,
    )


def require_room(ahead: Forecast, place: Path, taken: int = 0) -> None:
    """Raises UserError where the disk of `place` has less room, `taken` bytes being there already."""
    there = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if ahead.total > free + taken:
        raise UserError(
            f"{place}: the run needs {ahead.text}, and {words(free)} are free; "
            "free some, lower checkpoint.budget, raise tape.every, or choose another place with --runs"
        )


def memory(device: torch.device) -> int:
    """Bytes of memory that a training can have on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * KEPT_FREE)
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0


def require_memory(method: Method, spec: DataSpec, device: torch.device) -> None:
    """Raises UserError where the device cannot hold the networks, their gradients and the moments of Adam.

    They are counted without being built.
    """
    with (
        torch.device("meta"),
        warnings.catch_warnings(),
        suppress(RuntimeError),
    ):  # a network that reads values
        warnings.simplefilter("ignore")  # weights that would be read from files
        nets = method.networks(spec).values()
        _require("networks take", 16 * sum(p.numel() for net in nets for p in net.parameters()), device)


def require_memory_of_images(rows: int, spec: DataSpec, device: torch.device) -> None:
    """Raises UserError where the device cannot hold `rows` images, b of (b, C, H, W), in fp32."""
    _require("images of a step take", 4 * rows * math.prod(spec.shape), device)


def _require(what: str, needed: int, device: torch.device) -> None:
    if needed > (free := memory(device)) > 0:
        raise UserError(
            f"the {what} at least {words(needed)} of memory, and {words(free)} are free; make network "
            "smaller, lower train.batch_size, or raise train.accumulate"
        )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() + NAME for tensor in tensors)
