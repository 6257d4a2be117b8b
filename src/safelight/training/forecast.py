"""What a training will take of the disk, told before its first step, and refused where it cannot fit."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from safelight.config import UserError
from safelight.engine.state import State
from safelight.recipe import Recipe
from safelight.store import tracks
from safelight.store.size import words
from safelight.types import DataSpec

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


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() + NAME for tensor in tensors)
