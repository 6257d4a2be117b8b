"""Gradients summed over the processes while the backward pass goes on, in buckets of a fixed order.

A bucket is begun when its last gradient is there and all buckets before it were begun, by one thread, so
that every process sums the same ones in the same order. Sums are taken in the order of ranks, see `World`,
so that their bits do not depend on the buckets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from safelight.engine.distributed import World

SIZE = 1 << 22  # numbers of a bucket, at least: 16 MiB


class Buckets:
    """Sums the gradients of parameters, which `of` names for one backward pass after another."""

    def __init__(self, world: World, device: torch.device, parameters: Sequence[nn.Parameter]) -> None:
        """parameters: all that will be summed at some time."""
        self._world, self._device = world, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._thread = ThreadPoolExecutor(1, "gradients")
        self._hooks = [
            p.register_post_accumulate_grad_hook(self._there)  # type: ignore[no-untyped-call]
            for p in parameters
        ]
        self._buckets: list[list[nn.Parameter]] = []
        self._place: dict[int, int] = {}  # of a parameter, by id, in them; empty while nothing is summed
        self._missing: list[int] = []  # gradients of each bucket
        self._begun: list[Future[torch.cuda.Event | None]] = []

    @contextmanager
    def of(self, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        """Sum their gradients, those of the backward pass within and those that are there already.

        At the end all have one: zeros where no process has.
        """
        self._buckets = bucketed(parameters)
        self._place = {id(p): place for place, bucket in enumerate(self._buckets) for p in bucket}
        self._missing, self._begun = [len(bucket) for bucket in self._buckets], []
        try:
            yield
            while len(self._begun) < len(self._buckets):
                self._begin()
            for future in self._begun:
                if (done := future.result()) is not None:
                    torch.cuda.current_stream(self._device).wait_event(done)
        finally:
            self._place = {}

    def close(self) -> None:
        """Let go of the parameters."""
        for hook in self._hooks:
            hook.remove()
        self._thread.shutdown(cancel_futures=True)

    def _there(self, parameter: Tensor) -> None:
        """Note a gradient, and begin the buckets that it completes."""
        place = self._place.get(id(parameter))
        if place is None:
            return
        self._missing[place] -= 1
        while len(self._begun) < len(self._missing) and not self._missing[len(self._begun)]:
            self._begin()

    def _begin(self) -> None:
        """Begin to sum the next bucket."""
        gradients = []
        for parameter in self._buckets[len(self._begun)]:
            if parameter.grad is None:  # on some process, or for good (R1 does not reach the last bias)
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        ready = torch.cuda.Event() if self._stream else None  # type: ignore[no-untyped-call]
        if ready is not None:
            ready.record(torch.cuda.current_stream(self._device))
        self._begun.append(self._thread.submit(self._sum, gradients, ready))

    def _sum(self, gradients: list[Tensor], ready: torch.cuda.Event | None) -> torch.cuda.Event | None:
        if self._stream is None or ready is None:
            self._world.sum_(gradients)
            return None
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(ready)
            self._world.sum_(gradients)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self._stream)
        return done


def bucketed(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Parameters in buckets of `SIZE` numbers or more, the last ones first, as gradients come."""
    buckets: list[list[nn.Parameter]] = [[]]
    room = SIZE
    for parameter in reversed(parameters):
        if room <= 0:
            buckets.append([])
            room = SIZE
        buckets[-1].append(parameter)
        room -= parameter.numel()
    return [bucket for bucket in buckets if bucket]
