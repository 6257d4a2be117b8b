"""The training loop, and nothing else: batch -> components -> weighted sum -> gradients -> update.

docs/one-batch.md walks through this file.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from safelight import philox
from safelight.engine.buckets import Buckets
from safelight.engine.distributed import Gather, Recording, World, alone, refused, replaying
from safelight.engine.optim import rates
from safelight.engine.plan import Plan, Rate
from safelight.engine.readback import read_later
from safelight.engine.scaling import LossScale
from safelight.engine.sharded import ShardedState
from safelight.engine.state import State
from safelight.philox import DeviceDraw
from safelight.randomness import ASYNCHRONOUS, RowDraw, reseed
from safelight.types import Batch, Method, Moment, Phase, Remembers, Values

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class BatchStream(Protocol):
    """Where batches come from: a pure function of the step."""

    def parts(self, step: int, accumulate: int, rank: int, world: int) -> list[Batch]: ...


@dataclass
class Signals:
    """What one process wants of all: summed with each phase's gradients, so that all agree on it."""

    stop: bool = False  # Ctrl-C was pressed
    edit: bool = False  # an intervention waits in the inbox
    leave: bool = False  # a fork with a remedy goes on in place of this run


@contextmanager
def interrupts(signals: Signals, alone: bool) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP ask for a stop after the step in hand; a second Ctrl-C interrupts at once.

    alone: False among several processes. There the second one is passed over: a terminal sends Ctrl-C to all
    of them, and torchrun sends it to them once more. (It kills what has not ended 30 seconds later.)
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        signals.stop = True
        if alone:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in ENDING if not _left_alone(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _left_alone(number: int) -> bool:
    """Whether a signal is a hang-up that nohup has told the process to ignore."""
    return number not in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(number) is signal.SIG_IGN


@dataclass(frozen=True)
class StepRecord:
    """What a step leaves for the metrics. Tensors are 0-d and still on the device."""

    step: int
    scalars: Mapping[str, Tensor]  # raw components by name, "grad_norm/<network>", "seen/<name>"
    weights: Mapping[str, float]  # of the components, as in force
    rates: Mapping[str, Rate]  # by network, as its optimiser used them
    fingerprint: Tensor  # of the weights after the step
    seconds: float


@dataclass
class Job:
    """A training run as the loop sees it."""

    method: Method
    state: State | ShardedState
    stream: BatchStream
    plan_at: Callable[[int], Plan]  # recipe and interventions in force at a step
    record: Callable[[StepRecord], None]
    boundary: Callable[[Signals], None]  # after each step: checkpoints, sheets, edits; may raise Stop
    signals: Signals = field(default_factory=Signals)
    world: World = field(default_factory=World)
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Stop(Exception):
    """Raised by a boundary: training ends here, at a whole step, in good order."""


def train(job: Job) -> None:
    """Run a job from its state's step to the end of its plan. A `Stop` from its boundary is passed on."""
    with _buckets(job) as buckets:
        _train(job, buckets)


def _train(job: Job, buckets: Buckets | None) -> None:
    state, method, world = job.state, job.method, job.world
    fingerprint = state.fingerprint()
    heard: Callable[[], Signals] = Signals
    while state.step < (plan := job.plan_at(state.step)).steps:
        began = time.perf_counter()
        step, seed = state.step, plan.train.seed
        weights, used = plan.weights_at(step), rates(plan, method.phases, step)
        parts = job.stream.parts(step, plan.train.accumulate, world.rank, world.size)
        scalars: dict[str, Tensor] = {}
        half = _is_half(job)
        agreed: Callable[[], Signals] = Signals  # a step without a phase agrees on nothing
        for phase in method.phases:
            if step % phase.every:
                continue
            before = [buffer.clone() for buffer in _buffers(job, phase)]
            if half and phase.name not in state.scales:
                state.scales[phase.name] = LossScale(job.device)
            scale = state.scales[phase.name] if half else None
            with only_training(state, phase.trains):
                components, seen = _backward(job, phase, parts, step, weights, seed, scale, buckets)
            if not components:  # every weight is 0: no gradient, and no step on stale moments
                continue
            gradients, agreed = _reduce(job, phase, [*components.values(), *seen.values()], before)
            if scale:
                scale.unscale(gradients)
            norms = {name: state.optimisers[name].step(plan.optim[name], used[name]) for name in phase.trains}
            if scale:
                scale.update([*norms.values()])
            scalars |= {f"grad_norm/{name}": norm for name, norm in norms.items()}
            count = parts[0].weight  # as the loss has it
            scalars |= {name: (values if count is None else values * count).mean()
                        for name, values in components.items()}  # fmt: skip
            scalars |= {f"seen/{name}": values.mean() for name, values in seen.items() if values.ndim == 1}
            if isinstance(method, Remembers):
                state.memory |= method.remember(phase.name, state.memory, seen)
        state.averages.update(step)
        state.step += 1
        job.record(StepRecord(step, scalars, weights, used, fingerprint(), time.perf_counter() - began))
        # What a device agreed on is heard a step later, so that it need not be waited for.
        now, heard = (heard, agreed) if job.device.type in ASYNCHRONOUS else (agreed, Signals)
        job.boundary(now())


@contextmanager
def _buckets(job: Job) -> Iterator[Buckets | None]:
    """What sums gradients over the processes, where there are several."""
    if job.world.size == 1 or isinstance(job.state, ShardedState):  # FSDP sums gradients itself
        yield None
        return
    trained = [p for optimiser in job.state.optimisers.values() for p in optimiser.parameters]
    buckets = Buckets(job.world, job.device, trained)
    try:
        yield buckets
    finally:
        buckets.close()


def _backward(
    job: Job, phase: Phase, parts: list[Batch], step: int, weights: Mapping[str, float], seed: int,
    scale: LossScale | None, buckets: Buckets | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:  # fmt: skip
    """Gradients of one phase, summed over all processes, times the scale in fp16.

    Returns components and seen values as tables over the global batch, own rows filled, others zero.
    """
    shares = len(parts) * job.world.size

    def losses(part: Batch, gather: Gather) -> tuple[Values, Values]:
        reseed(seed, step, phase.name, part.rows.start)  # dropout
        drawn = DeviceDraw if job.device.type in philox.DEVICES else RowDraw
        draw = drawn(seed, step, phase.name, part.rows, job.device)
        moment = Moment(step, draw, job.state.memory, weights, gather, lambda: _fp32(job))
        with job.autocast():
            return phase.losses(job.state.nets, part, moment)

    components: dict[str, Tensor] = {}
    seen: dict[str, Tensor] = {}
    for part, gather in zip(parts, _gathers(job, phase, parts, losses), strict=True):
        part_components, part_seen = losses(part, gather)
        total = torch.zeros((), device=job.device)
        for name, values in part_components.items():
            # A component of all B rows is computed by each of the shares; the others are of own rows.
            repeats = 1 if values.shape[0] == len(part.rows) else shares
            total = total + weights[name] * _counted(values, part).float().sum() / repeats
        if total.requires_grad:
            total = total * (phase.every / part.total)
        total = total if scale is None else total * scale.scale
        with (
            buckets.of(_trained(job, phase))
            if buckets and part_components and part is parts[-1]
            else nullcontext()
        ):
            if total.requires_grad:
                total.backward()  # type: ignore[no-untyped-call]
        _fill(components, part, part_components)
        _fill(seen, part, part_seen)
    return components, seen


def _counted(values: Tensor, part: Batch) -> Tensor:
    """Values of a part's rows, or of all, by how much each row counts."""
    if part.weight is None:
        return values
    alike = values.shape[0] == part.total
    return values * (part.weight if alike else part.weight[part.rows.start : part.rows.stop])


def _gathers(
    job: Job, phase: Phase, parts: list[Batch], losses: Callable[[Batch, Gather], tuple[Values, Values]]
) -> Iterable[Gather]:
    """How each part of a phase sees the other parts' rows."""
    shares = len(parts) * job.world.size
    if not phase.whole:
        return [refused] * len(parts)
    if shares == 1:
        return [alone]
    recording = Recording()
    with torch.no_grad(), _still_norms(job.state.nets.values()):
        for part in parts:
            losses(part, recording.of(part))
    recorded = recording.whole(parts[0].total, job.world)
    return [replaying(part, recorded, shares) for part in parts]


def _fill(tables: dict[str, Tensor], part: Batch, values: Values) -> None:
    """Write a part's rows into tables over the global batch."""
    for name, rows in values.items():
        if rows.shape[0] != len(part.rows):
            rows = rows[part.rows.start : part.rows.stop]
        if name not in tables:
            tables[name] = torch.zeros(part.total, *rows.shape[1:], device=rows.device)
        tables[name][part.rows.start : part.rows.stop] = rows.detach()


def _reduce(
    job: Job, phase: Phase, tables: list[Tensor], before: list[Tensor]
) -> tuple[list[Tensor], Callable[[], Signals]]:
    """The gradients, summed; and over the processes changes of batch-norm buffers, tables, signals.

    before: the buffers as all processes had them. Their changes are averaged, not they themselves: a buffer
    that never changes, such as a table of frequencies, would drift by the rounding of a third.
    """
    gradients = []
    job.state.collect()
    for parameter in _trained(job, phase):
        if parameter.grad is None:  # for good: R1 does not reach the last bias
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    if job.world.size == 1:
        return gradients, lambda: job.signals
    buffers = _buffers(job, phase)
    for buffer, old in zip(buffers, before, strict=True):
        buffer.sub_(old).div_(job.world.size)
    flags = [job.signals.stop, job.signals.edit, job.signals.leave]
    signals = torch.tensor(flags, dtype=torch.float32, device=job.device)
    job.world.sum_([*buffers, *tables, signals])
    for buffer, old in zip(buffers, before, strict=True):
        buffer.add_(old)
    read = read_later(signals)
    return gradients, lambda: Signals(*(count > 0 for count in read()))


def _trained(job: Job, phase: Phase) -> list[nn.Parameter]:
    """The parameters that a phase trains."""
    trained = [parameter for name in phase.trains for parameter in job.state.optimisers[name].parameters]
    return [parameter for parameter in trained if parameter.requires_grad]


def _buffers(job: Job, phase: Phase) -> list[Tensor]:
    """What forward passes of a phase may change besides gradients, differently on every process."""
    if job.world.size == 1:
        return []
    trained = [job.state.nets[name] for name in phase.trains]
    return [buffer for net in trained for buffer in net.buffers() if buffer.is_floating_point()]


@contextmanager
def only_training(state: State | ShardedState, trains: tuple[str, ...]) -> Iterator[None]:
    """The other networks get no gradients and keep their batch-norm statistics."""
    others = [net for name, net in state.nets.items() if name in state.optimisers and name not in trains]
    stopped = [parameter for net in others for parameter in net.parameters() if parameter.requires_grad]
    for parameter in stopped:
        parameter.requires_grad_(False)
    with _still_norms(net for name, net in state.nets.items() if name not in trains):
        yield
    for parameter in stopped:  # and no other: what a network keeps frozen within itself stays so
        parameter.requires_grad_(True)


@contextmanager
def _still_norms(nets: Iterable[nn.Module]) -> Iterator[None]:
    """Batch norms normalise by the batch but leave their running statistics alone."""
    norms = [module for net in nets for module in net.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _is_half(job: Job) -> bool:
    """Whether losses are computed in fp16, which needs them scaled."""
    kind = job.device.type
    if not torch.amp.is_autocast_available(kind):
        return False
    with job.autocast():
        return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16


def _fp32(job: Job) -> AbstractContextManager[object]:
    """Without autocast, and not compiled: no compiled network can be differentiated twice."""
    plain = torch.autocast(job.device.type, enabled=False)
    return _uncompiled(plain) if job.state.compiled else plain


@contextmanager
def _uncompiled(plain: AbstractContextManager[object]) -> Iterator[None]:
    with plain, torch.compiler.set_stance("force_eager"):
        yield
