"""What a training step costs here: operations, seconds, memory, each from a few steps really made."""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from safelight.data.stream import Stream
from safelight.engine import precision
from safelight.engine.loop import Job, train
from safelight.engine.plan import Plan
from safelight.engine.precision import Execution
from safelight.engine.state import State
from safelight.types import Method

WARM_UP, TIMED = 2, 5  # steps


@dataclass(frozen=True)
class Cost:
    """Seconds a step, wall and processor, with lazy phases at their share."""

    seconds: float
    processor: float


class Operations(TorchDispatchMode):
    """Counts the operations of everything that runs within it, by PyTorch's own formulas.

    Its FlopCounterMode sorts them by module, for which it needs hooks that gradient penalties do not bear.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.total += float(formula(*args, **(kwargs or {}), out_val=out))
        return out


class Bench:
    """A state that is trained a step at a time, on batches of any size."""

    def __init__(
        self, state: State, method: Method, stream: Stream, plan: Plan, execution: Execution
    ) -> None:
        self.state, self.stream, self.plan = state, stream, plan
        self.device = stream.device
        self.job = Job(
            method,
            state,
            stream,
            lambda step: self.plan,
            lambda record: None,
            lambda signals: None,
            autocast=precision.autocast(self.device, execution.precision),
            device=self.device,
        )

    def steps(self, rows: int, first: int, last: int, accumulate: int = 1) -> list[Cost]:
        """Make the steps from `first` to `last`, of `rows` images each: what every one of them took.

        Their numbers say which lazy phases they have.
        """
        section = self.plan.train.model_copy(update={"batch_size": rows, "accumulate": accumulate})
        whole = replace(self.plan, steps=last + 1, train=section)
        ends = []

        def boundary(_: object) -> None:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            ends.append((time.perf_counter(), time.process_time()))

        self.job.stream, self.job.plan_at, self.job.boundary = (
            self.stream.of(rows),
            lambda step: whole,
            boundary,
        )
        self.state.step = first
        began = (time.perf_counter(), time.process_time())
        train(self.job)
        return [
            Cost(after[0] - before[0], after[1] - before[1]) for before, after in pairwise([began, *ends])
        ]

    def operations(self, rows: int) -> float:
        """Floating-point operations of a step of `rows` images: matrix products and convolutions."""

        def count(at: int) -> float:
            counted = Operations()
            with counted:
                self.steps(rows, at, at)
            return counted.total

        return self._shared({at: count(at) for at in self._numbers})

    def time(self, rows: int, accumulate: int = 1, timed: int = TIMED) -> Cost:
        """The median of a few steps, made one after another as in training.

        The first of a lazy phase is not among them either: kernels and memory that only it needs are made in
        it, which would count as if every one of its steps took as long.
        """
        costs = self.steps(rows, 1, WARM_UP + timed, accumulate)
        lazy = self._numbers[1:]
        steady = [cost for step, cost in enumerate(costs, start=1) if all(step % every for every in lazy)]
        measured = {1: steady[min(WARM_UP, len(steady) - 1) :]}
        for every in lazy:
            made = [self.steps(rows, every - 1, every, accumulate)[-1] for _ in range(1 + max(1, timed // 2))]
            measured[every] = made[1:]
        wall = {at: statistics.median(cost.seconds for cost in costs) for at, costs in measured.items()}
        processor = {
            at: statistics.median(cost.processor for cost in costs) for at, costs in measured.items()
        }
        return Cost(self._shared(wall), self._shared(processor))

    def peak(self, rows: int) -> int:
        """The most bytes of tensors that are there at once in a step, besides those of the state."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            self.steps(rows, 0, 0)
            return torch.cuda.max_memory_allocated(self.device) - before
        return _profiled(lambda: self.steps(rows, 0, 0))

    def base(self) -> int:
        """Bytes of this process without tensors: Python, libraries, kernels, data in memory.

        0 on an accelerator, whose memory it does not take, and where the system does not tell.
        """
        if self.device.type != "cpu":
            return 0
        gc.collect()
        with suppress(OSError, AttributeError):  # not every C library can give memory back
            ctypes.CDLL(None).malloc_trim(0)
        return max(0, _held() - self.resident())

    def resident(self) -> int:
        """Bytes of the state: weights, averages, moments, memory, frozen networks."""
        tensors = [tensor for group in self.state.groups().values() for tensor in group.values()]
        tensors += [t for net in self.state.nets.values() for t in (*net.parameters(), *net.buffers())]
        return sum(storages(tensors).values())

    @property
    def _numbers(self) -> list[int]:
        """Step numbers that have the phases of every step alone, and each lazy phase beside them."""
        return [1, *sorted({phase.every for phase in self.job.method.phases if phase.every > 1})]

    def _shared(self, measured: Mapping[int, float]) -> float:
        """A quantity of a step on average: lazy phases at their share of the steps."""
        steady = measured[1]
        return steady + sum((value - steady) / every for every, value in measured.items() if every > 1)


def _held() -> int:
    """Bytes that this process holds in memory; 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def storages(tensors: list[Tensor]) -> dict[int, int]:
    """Bytes of the memory behind tensors, by address: what several share counts once."""
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}


def _profiled(work: Callable[[], object]) -> int:
    """The peak of allocations and releases that PyTorch reports while something runs on the CPU."""
    from torch.profiler import ProfilerActivity, profile

    with _unheard(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = profiler.profiler.kineto_results.events()
    now = most = 0
    moments = (event for event in events if event.name() == "[memory]")
    for event in sorted(moments, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@contextmanager
def _unheard() -> Iterator[None]:
    """Without the lines that the profiler's C++ writes to stderr, whatever it is told."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
