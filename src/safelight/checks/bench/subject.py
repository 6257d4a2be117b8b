"""What is checked: a method, its networks, its plan and its data, at the size of a probe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from safelight.checks.bench.probes import Call, Clock, NotApplicable, watching
from safelight.data.pack import Pack
from safelight.data.stream import Stream
from safelight.engine.distributed import alone, refused
from safelight.engine.loop import Job, StepRecord, Stop, train
from safelight.engine.plan import Plan, Ramp
from safelight.engine.state import State
from safelight.randomness import RowDraw, reseed
from safelight.types import Batch, DataSpec, Method, Moment, Nets, Phase, Values

STEPS = 6  # of a trial
PATIENCE = 20.0  # seconds after which no further step of a trial begins
ROWS = 16  # images of a probe's batch, at most
FEW = 4  # images where each is probed by itself
BACKWARD = 3  # forward passes that a step takes as long as


@dataclass
class Trial:
    """A few steps of training on small batches, by the engine itself, and what was seen of them."""

    state: State
    before: Mapping[str, Tensor]  # parameters and buffers as they were built, by "network.name"
    trainable: frozenset[str]  # parameters that could be trained, as they were built, by "network.name"
    plan: Plan  # with which it was trained
    rows: int  # images of a batch
    records: list[StepRecord] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)  # of networks in the first step, inputs only
    seconds_an_image: float = 0.0


@dataclass(eq=False)
class Subject:
    """All that a check sees. Networks are built once, and tried for a few steps, when first needed."""

    method: Method
    build: Callable[[Plan], State]  # the state of training at step 0
    spec: DataSpec
    plan: Plan
    how: BaseModel  # [sample]
    streams: Callable[[int], Stream]  # the training batches, by their size
    precision: str = "fp32"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    hours: float | None = None  # that the run may take
    clock: Clock = field(default_factory=Clock)
    not_taken: Callable[[], str] = lambda: ""  # of init.from: the source, where none of its weights fit

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
        return _trial(self)

    @property
    def finished_trial(self) -> Trial | None:
        """The trial, where it was made."""
        return self.__dict__.get("trial")

    @property
    def phases(self) -> Sequence[Phase]:
        """The phases of the method. Builds the networks first, which may tell it their shape."""
        self.trial  # noqa: B018
        return self.method.phases

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
        """Items, where there are such, that have their conditions: samples are made with these."""
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
        """Components of a phase as the engine computes them, in one part.

        seen: return what the phase hands to `remember` instead. memory: of the method. Default: the trial's.
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
        return phase.losses(nets, batch, moment)[1 if seen else 0]

    def sample(self, nets: Nets, given: Values, present: Tensor, how: BaseModel | None = None) -> Tensor:
        """Samples (b, C, H, W) in model space on some conditions. Raises NotApplicable for an encoder."""
        if not getattr(self.method, "draws", True):
            raise NotApplicable("encoders generate no images")
        draw = RowDraw(0, 0, "sample", range(len(present)), self.device)
        with torch.no_grad():
            latent = self.method.latent(draw)
            return self.method.sample(nets, latent, given, present, draw, how or self.how).float()

    @property
    def quick_how(self) -> BaseModel:
        """[sample] with few steps, where it has steps: for what does not depend on them."""
        steps = getattr(self.how, "steps", None)
        return self.how.model_copy(update={"steps": 2}) if isinstance(steps, int) and steps > 2 else self.how


def exchanged(given: Values, by: int = 1) -> dict[str, Tensor]:
    """Every row with the conditions of another."""
    return {name: value.roll(by, 0) for name, value in given.items()}


def _trial(subject: Subject) -> Trial:
    """Train a fresh state for a few steps, at the peak learning rate, without ramps."""
    most = min(ROWS, subject.plan.train.batch_size)
    state = subject.build(_short_plan(subject, most))
    rows = _affordable_rows(subject, state, most)
    plan = _short_plan(subject, rows)
    trainable = frozenset(
        f"{name}.{key}"
        for name, net in state.nets.items()
        for key, value in net.named_parameters()
        if value.requires_grad
    )
    before = {
        f"{name}.{key}": value.detach().clone()
        for name, net in state.nets.items()
        for key, value in net.state_dict().items()
    }
    trial = Trial(state, before, trainable, plan, rows)
    times: list[float] = []
    began = time.perf_counter()

    def boundary(_: object) -> None:
        times.append(time.perf_counter())
        if time.perf_counter() - began > PATIENCE:
            raise Stop

    job = Job(
        subject.method,
        state,
        subject.streams(rows),
        lambda step: plan,
        trial.records.append,
        boundary,
        autocast=subject.autocast,
        device=subject.device,
    )
    with watching(state.nets) as trial.calls:
        _train_to(job, 1)
    _train_to(job, STEPS)
    if len(times) > 2:
        durations = [after - before for before, after in pairwise(times[1:])]
        trial.seconds_an_image = sorted(durations)[len(durations) // 2] / rows
    else:
        trial.seconds_an_image = (times[-1] - began) / len(times) / rows
    return trial


def _affordable_rows(subject: Subject, state: State, most: int) -> int:
    """How many images the steps of a trial can be made on within its patience: FEW or more, if there are.

    Judged by a forward pass on FEW, which changes nothing.
    """
    if most <= FEW:
        return most
    modes = {name: net.training for name, net in state.nets.items()}
    for net in state.nets.values():
        net.eval()
    began = time.perf_counter()
    # With gradients: a penalty is made of one.
    subject.losses(state.nets, subject.method.phases[0], subject.batch(FEW), memory=state.memory)
    seconds = (time.perf_counter() - began) / FEW * BACKWARD * len(subject.method.phases) * STEPS
    for name, net in state.nets.items():
        net.train(modes[name])
    return max(FEW, min(most, int(PATIENCE / seconds)))


def _short_plan(subject: Subject, rows: int) -> Plan:
    """The plan for a few steps, at the peak learning rates and the largest weights."""
    whole = subject.plan
    optim = {
        name: settings.model_copy(update={"warmup": 0, "schedule": "constant"})
        for name, settings in whole.optim.items()
    }
    stated = {"accumulate": 1, "batch_size": rows, "ema_lengths": ()}
    training = whole.train.model_copy(update=stated)
    return replace(whole, steps=STEPS, train=training, optim=optim, weights=subject.weights)


def _train_to(job: Job, steps: int) -> None:
    """Train on to a step, unless patience ends first."""
    whole = job.plan_at(0)
    job.plan_at = lambda step: replace(whole, steps=steps)
    with suppress(Stop):
        train(job)
    if job.device.type == "cuda":
        torch.cuda.synchronize(job.device)
