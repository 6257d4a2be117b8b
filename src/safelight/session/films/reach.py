"""The networks of a run at any of its steps, for pictures: from the tape, a checkpoint, or recomputed.

Always rounded to bfloat16, as a tape holds them, so that a picture does not tell where its weights came from.
Steps before a fork's first one are those of the run it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import nn

from safelight.config import UserError
from safelight.engine.state import built
from safelight.recipes.recipe import Recipe
from safelight.session.prepare import Tell
from safelight.session.replay import Replay, Verdict
from safelight.session.watch import Autocast
from safelight.store.lineage import owner_of
from safelight.store.run import RunDirectory
from safelight.store.tape import TapeReader, Weights, rounded
from safelight.types import DataSpec, Method

Source = Literal["tape", "checkpoint", "replay"]


class Networks(dict[str, nn.Module]):
    """Networks by name. Asking for one that the tape does not keep raises UserError."""

    def __missing__(self, name: str) -> nn.Module:
        raise UserError(f"tape.networks: samples need {name}, which this run's tape does not keep")


@dataclass(frozen=True)
class Reached:
    """A run at a step, ready to sample from. Going on to another step changes its networks."""

    step: int
    nets: Networks  # averaged and frozen ones, in evaluation mode, rounded
    source: Source
    verdict: Verdict
    method: Method  # which built these networks
    recipe: Recipe  # in force at the step
    spec: DataSpec
    device: torch.device
    autocast: Autocast


class Reach:
    """A run through its steps. Quickest in their order: tapes and replays go on from where they are."""

    def __init__(self, directory: RunDirectory, tell: Tell = lambda line: None) -> None:
        """Raises UserError for a damaged run. tell: takes a line about what is recomputed, or damaged."""
        self.directory, self.tell = directory, tell
        self.tape = TapeReader(directory.path)
        for damage in self.tape.damage:
            tell(damage)

    def at(self, step: int) -> Reached:
        """The networks after `step` steps. Raises UserError for a step that cannot be reached."""
        if step < self.replay.first:
            return self._before.at(step)
        if step in self.tape:
            try:
                weights = self.tape.read(step)
            except UserError as damage:
                self.tell(str(damage))
            else:
                return self._reached(step, weights, "tape", Verdict("exact", step, step, 0))
        verdict = self.replay.go_to(step)
        averages = self.replay.state.averages.networks
        weights = {name: {key: rounded(value) for key, value in net.state_dict().items()}
                   for name, net in averages.items()}  # fmt: skip
        return self._reached(step, weights, "replay" if verdict.start < step else "checkpoint", verdict)

    @cached_property
    def replay(self) -> Replay:
        """The run itself, recomputed where that is needed."""
        return Replay(self.directory, self.tell)

    @cached_property
    def _before(self) -> Reach:
        """The run that this one was forked from."""
        return Reach(owner_of(self.directory, self.replay.first - 1), self.tell)

    @cached_property
    def _networks(self) -> dict[str, nn.Module]:
        replay = self.replay
        seed, layout = replay.recipe.train.seed, replay.execution.memory_format
        nets = built(replay.method, replay.spec, seed, replay.device, layout)
        names: Sequence[str] = (*replay.method.frozen, *replay.method.ema)
        return {name: nets[name].eval().requires_grad_(False) for name in names}

    @torch.no_grad()
    def _reached(self, step: int, weights: Weights, source: Source, verdict: Verdict) -> Reached:
        own = self.replay
        nets = Networks({name: self._networks[name] for name in own.method.frozen})
        for name, state in weights.items():
            self._networks[name].load_state_dict(state)
            nets[name] = self._networks[name]
        recipe = own.in_force.recipe_at(step)
        return Reached(step, nets, source, verdict, own.method, recipe, own.spec, own.device, own.autocast)
