"""What is checked: a method, its networks, its plan and its data, at the size of a probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from safelight.checks.bench.clock import Clock, NotTold
from safelight.checks.bench.trial import Trial, trial
from safelight.data.pack import Pack
from safelight.data.stream import Stream
from safelight.draw import RowDraw, reseed
from safelight.engine.gather import alone, refused
from safelight.engine.plan import Plan
from safelight.engine.schedule import Ramp
from safelight.engine.state import State
from safelight.types import Batch, DataSpec, Method, Moment, Nets, Phase, Values

if TYPE_CHECKING:
    from safelight.checks.bench.world import World


@dataclass
class Subject:
    """All that a check sees. Networks are built once, and tried for a few steps, when first asked for."""

    method: Method
    build: Callable[[Plan], State]  # the state of training at step 0
    spec: DataSpec
    plan: Plan
    how: BaseModel  # [sample]
    streams: Callable[[int], Stream]  # the training batches, of so many images each
    precision: str = "fp32"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    hours: float | None = None  # that the run may take
    clock: Clock = field(default_factory=Clock)

    @property
    def pack(self) -> Pack:
        return self.streams(1).pack

    @property
    def rows(self) -> int:
        """Images of a probe's batch."""
        return self.trial.rows

    @cached_property
    def trial(self) -> Trial:
        """A state after a few steps on small batches: zeros that layers start with are left behind."""
        return trial(self)

    @property
    def tried(self) -> Trial | None:
        """The trial, where it was made."""
        return self.__dict__.get("trial")

    @cached_property
    def world(self) -> World:
        """The method in a world of one image. Raises NotTold where no network denoises."""
        from safelight.checks.bench.world import world  # which asks the subject in turn

        return world(self)

    @property
    def nets(self) -> Nets:
        """The networks after the trial, in evaluation mode, so that batch norm mixes no samples."""
        for net in self.trial.state.nets.values():
            net.eval()
        return self.trial.state.nets

    @cached_property
    def sampling_nets(self) -> dict[str, nn.Module]:
        """Those that samples are made with: averages, and frozen ones, in evaluation mode."""
        state = self.trial.state
        return {
            **{name: state.nets[name].eval() for name in self.method.frozen},
            **state.averages.networks,
        }

    @cached_property
    def weights(self) -> dict[str, float]:
        """Weights of the components, ramps at their largest, so that nothing is left out."""
        return {
            name: max(weight.begin, weight.end, key=abs) if isinstance(weight, Ramp) else weight
            for name, weight in self.plan.weights.items()
        }

    def batch(self, count: int, step: int = 0) -> Batch:
        """A training batch of `count` images."""
        return self.streams(count).batch(step, range(count))

    def real(self, count: int) -> Batch:
        """Items with their conditions where there are such: those that samples are asked on."""
        stream = self.streams(1)
        pack = stream.pack
        items = pack.held_out if len(pack.held_out) else pack.train
        items = items[: max(count, 256)]
        present = pack.present[items]
        items = items[present] if present.any() else items
        return stream.pick(np.resize(items, count))

    def losses(
        self, nets: Nets, phase: Phase, batch: Batch, step: int = 0, seen: bool = False,
        memory: Values | None = None,
    ) -> Values:  # fmt: skip
        """Components of a phase, as the engine would ask for them, in one part; or what it has seen.

        memory: of the method; else as the trial left it.
        """
        reseed(self.plan.train.seed, step, phase.name, batch.rows.start)
        draw = RowDraw(self.plan.train.seed, step, phase.name, batch.rows, self.device)
        moment = Moment(
            step,
            draw,
            self.trial.state.memory if memory is None else memory,
            self.weights,
            alone if phase.whole else refused,
            lambda: torch.autocast(self.device.type, enabled=False),
        )
        found = phase.losses(nets, batch, moment)
        return found[1] if seen else found[0]

    def sample(self, nets: Nets, given: Values, present: Tensor, how: BaseModel | None = None) -> Tensor:
        """Samples (b, C, H, W) in model space on some conditions. Raises NotTold for an encoder."""
        if not getattr(self.method, "draws", True):
            raise NotTold("an encoder draws no images")
        draw = RowDraw(0, 0, "sample", range(len(present)), self.device)
        with torch.no_grad():
            latent = self.method.latent(draw)
            return self.method.sample(nets, latent, given, present, draw, how or self.how).float()

    @property
    def quick_how(self) -> BaseModel:
        """[sample] with few steps, where it has steps: for what does not depend on them."""
        steps = getattr(self.how, "steps", None)
        return self.how.model_copy(update={"steps": 2}) if isinstance(steps, int) and steps > 2 else self.how

    def phases(self) -> Iterator[tuple[Phase, tuple[str, ...]]]:
        """The phases, each with the networks it trains; without networks they could not be asked."""
        self.trial  # noqa: B018 - builds the networks, which may tell the method the shape
        for phase in self.method.phases:
            yield phase, phase.trains


def exchanged(given: Values, by: int = 1) -> dict[str, Tensor]:
    """Every row with the conditions of another."""
    return {name: value.roll(by, 0) for name, value in given.items()}
