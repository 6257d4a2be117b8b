"""The live film: pictures of watched specimens every few steps, while their run trains.

Its weights are the averages rounded to bfloat16, as a tape holds them, so that a live picture is, pixel for
pixel, the one that is taken later from the tape or by replay. Nothing here changes a weight of the run.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from safelight.data.stream import examples
from safelight.engine.state import State
from safelight.explore.camera import picture_of
from safelight.explore.specimens import Start, specimen, start_of
from safelight.loading.model import evaluated
from safelight.loading.prepare import Prepared
from safelight.recipe import Recipe
from safelight.store.frames import ReelWriter
from safelight.store.tape import rounded
from safelight.types import Autocast


class LiveFilm:
    """Takes the pictures of one session. Close it."""

    def __init__(self, run: Path, session: int, ready: Prepared, autocast: Autocast) -> None:
        self._reel = ReelWriter(run, session)
        self._ready, self._autocast = ready, autocast
        self._starts: dict[str, Start] = {}
        self._nets: dict[str, nn.Module] = {}  # a copy, rounded for every frame

    def take(self, step: int, state: State, recipe: Recipe, last: bool = False) -> None:
        """The pictures that are due at a step; those of the last step always are. Raises UserError."""
        ids, every = recipe.watch.film, recipe.watch.film_every
        if not ids or (step % every and not last):
            return
        nets = self._rounded(state)
        method = self._ready.method
        pictures = {
            id: picture_of(
                self._start(id, recipe),
                method,
                nets,
                recipe.sample,
                self._ready.stream.space,
                self._autocast,
            )
            for id in ids
        }
        self._reel.append(step, pictures)

    def sync(self) -> None:
        """Make the pictures so far durable."""
        self._reel.sync()

    def close(self) -> None:
        """Give the files back."""
        self._reel.close()

    def _start(self, id: str, recipe: Recipe) -> Start:
        if id not in self._starts:
            ready = self._ready
            self._starts[id] = start_of(
                specimen(id),
                ready.method,
                ready.stream.spec,
                recipe.train.seed,
                ready.device,
                lambda count: examples(ready.stream, count),
            )
        return self._starts[id]

    @torch.no_grad()
    def _rounded(self, state: State) -> dict[str, nn.Module]:
        averages = state.averages.networks
        if not self._nets:
            self._nets = {name: deepcopy(net) for name, net in averages.items()}
        for name, net in averages.items():
            for key, value in self._nets[name].state_dict().items():
                value.copy_(rounded(net.state_dict()[key]))
        return {**evaluated(self._ready.method, state), **self._nets}
