"""A few steps of training on small batches, by the engine itself, with everything that was seen of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safelight.checks.bench.watching import Call, watching
from safelight.engine.loop import Job, StepRecord, Stop, train
from safelight.engine.plan import Plan
from safelight.engine.state import State

if TYPE_CHECKING:
    from safelight.checks.bench.subject import Subject

STEPS = 6
PATIENCE = 20.0  # seconds after which no further step is begun
ROWS = 16  # images of a probe's batch, at most
FEW = 4  # images where every one is looked at by itself
BACKWARD = 3  # forward passes that a step takes as long as


@dataclass
class Trial:
    """What came of it."""

    state: State
    before: Mapping[str, Tensor]  # parameters and buffers as they were built, by "network.name"
    trainable: frozenset[str]  # parameters that could be trained, as they were built, by "network.name"
    plan: Plan  # with which it was trained
    rows: int  # images of a batch
    records: list[StepRecord] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)  # of networks in the first step, inputs only
    seconds_an_image: float = 0.0


def trial(subject: Subject) -> Trial:
    """Train a fresh state for a few steps, at the peak learning rate, without ramps."""
    most = min(ROWS, subject.plan.train.batch_size)
    state = subject.build(short(subject, most))
    rows = fitting(subject, state, most)
    plan = short(subject, rows)
    trainable = frozenset(
        f"{name}.{key}"
        for name, net in state.nets.items()
        for key, value in net.named_parameters()
        if value.requires_grad
    )
    made = Trial(state, everything(state), trainable, plan, rows)
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
        made.records.append,
        boundary,
        autocast=subject.autocast,
        device=subject.device,
    )
    with watching(state.nets) as calls:
        _to(job, 1)
    made.calls = calls
    _to(job, STEPS)
    if len(times) > 2:
        durations = [after - before for before, after in pairwise(times[1:])]
        made.seconds_an_image = sorted(durations)[len(durations) // 2] / rows
    else:
        made.seconds_an_image = (times[-1] - began) / len(times) / rows
    return made


def fitting(subject: Subject, state: State, most: int) -> int:
    """How many images the steps of a trial can be made on within its patience: FEW or more, if there are.

    Judged by one forward pass on FEW, which changes nothing.
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


def short(subject: Subject, rows: int) -> Plan:
    """The plan, of a few steps at the learning rates' peaks and the weights' largest."""
    whole = subject.plan
    optim = {
        name: own.model_copy(update={"warmup": 0, "schedule": "constant"})
        for name, own in whole.optim.items()
    }
    stated = {"accumulate": 1, "batch_size": rows, "ema_lengths": ()}
    return replace(
        whole,
        steps=STEPS,
        train=whole.train.model_copy(update=stated),
        optim=optim,
        weights=subject.weights,
    )


def everything(state: State) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, by "network.name"."""
    return {
        f"{name}.{key}": value.detach().clone()
        for name, net in state.nets.items()
        for key, value in net.state_dict().items()
    }


def _to(job: Job, steps: int) -> None:
    """Train on to a step, unless patience ends first."""
    whole = job.plan_at(0)
    job.plan_at = lambda step: replace(whole, steps=steps)
    with suppress(Stop):
        train(job)
    if job.device.type == "cuda":
        torch.cuda.synchronize(job.device)
