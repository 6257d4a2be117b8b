"""Processes of this machine: each by itself, so that one that dies takes no other along."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from queue import SimpleQueue
from typing import Any

from safelight import fanout


class LocalPool(ThreadPoolExecutor):
    """A thread for each process, and a process in each: `ProcessPoolExecutor` ends with any of its own."""

    def __init__(self, count: int | None, tasks: int, threads: int | None, device: str, tries: int) -> None:
        """As of `fanout.pool`. count: of processes; by default one for each card, or for `threads` cores."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        cards = _cards() if device in ("auto", "cuda") else []
        count = count or len(cards) or cores // (threads or 1)
        self.size = max(1, min(count, tasks))
        self._cores, self._tries = threads or max(1, cores // self.size), tries
        self._card = [cards[seat % len(cards)] if cards else "" for seat in range(self.size)]
        self._processes: dict[int, tuple[ProcessPoolExecutor, int]] = {}  # by seat, with the process's id
        self._seats: SimpleQueue[int] = SimpleQueue()
        self._closing = False
        for seat in range(self.size):
            self._seats.put(seat)
        super().__init__(self.size, "safelight")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future of fn(*args), in whichever process is free."""
        return super().submit(self._run, fn, args)

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        seat = self._seats.get()
        try:
            for _ in range(self._tries):
                if self._closing:
                    raise CancelledError
                try:
                    process, _ = self._processes.get(seat) or self._start(seat)
                    if self._closing:  # whoever closes it has signalled those that had begun
                        raise CancelledError
                    return process.submit(fanout.call, function, arguments, self._cores).result()
                except BrokenExecutor:
                    if ended := self._processes.pop(seat, None):
                        ended[0].shutdown(wait=False)
            raise fanout.given_up(self._tries)
        finally:
            self._seats.put(seat)

    def _start(self, seat: int) -> tuple[ProcessPoolExecutor, int]:
        environment = fanout.environment(self._cores)
        if card := self._card[seat]:
            environment["CUDA_VISIBLE_DEVICES"] = card
        context = get_context("spawn")  # a fork would share torch's threads, which do not survive it
        process = ProcessPoolExecutor(1, context, _begin, (environment,))
        try:
            self._processes[seat] = process, process.submit(os.getpid).result()
        except BrokenExecutor:
            process.shutdown(wait=False)
            raise
        return self._processes[seat]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of `Executor`. cancel_futures: also end what runs, a training after the step in hand."""
        self._closing = cancel_futures
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        try:
            if cancel_futures:
                self._signal(signal.SIGTERM)
            super().shutdown(wait=wait)
        except KeyboardInterrupt:  # the second one
            self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
            raise
        finally:
            for process, _ in self._processes.values():
                process.shutdown(wait=wait)
            self._processes.clear()

    def _signal(self, number: int) -> None:
        for _, pid in list(self._processes.values()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _cards() -> list[str]:
    """The cards that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return visible.split(",")
    import torch

    return [str(card) for card in range(torch.cuda.device_count())]


def _begin(environment: dict[str, str]) -> None:
    """Prepare a process, before a task makes it import torch."""
    os.environ |= environment
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Where the parent is killed, end like by SIGTERM, again and again: a training does after its step."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
