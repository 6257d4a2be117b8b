"""Several processes as one: torchrun starts them, sums over all of them join them.

PyTorch's DDP wrapper rebuilds its buckets after the first step, so a resumed run would differ in bits; here
buckets are fixed (buckets.py), and a sum is taken in the order of ranks, whatever is summed beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from safelight.config import UserError
from safelight.types import Batch

JOINING = timedelta(minutes=5)  # how long processes look for each other
PATIENCE = timedelta(hours=2)  # how long they wait for one that is packing data, or evaluating


class Lost(UserError):
    """Another process has ended; this one can only end as well."""


@dataclass(frozen=True)
class World:
    """The processes that train together: this one's rank, their number, its number on its machine."""

    rank: int = 0
    size: int = 1
    local: int = 0
    group: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process writes the run."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Sum the tensors over all processes, in place, in float32. Raises Lost."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().float().reshape(-1) for tensor in tensors])
        with _in_company():
            flat = self._summed(flat)
        offset = 0
        for tensor in tensors:
            tensor.detach().copy_(flat[offset : offset + tensor.numel()].view(tensor.shape))
            offset += tensor.numel()

    def sum_integers_(self, tensor: Tensor) -> None:
        """Sum a tensor of integers over all processes, in place, modulo its size. Raises Lost."""
        if self.size > 1:
            with _in_company():
                dist.all_reduce(tensor, group=self.group)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, of one shape, on the first one; [] on the others. Raises Lost."""
        tensors = [torch.empty_like(tensor) for _ in range(self.size)] if self.first else None
        with _in_company():
            dist.gather(tensor.contiguous(), tensors, dst=0, group=self.group)
        return tensors or []

    def _summed(self, flat: Tensor) -> Tensor:
        """The sum of a vector over all processes, each number's in the order of ranks.

        Each process adds up one part of it for all: as much traffic as a ring's all-reduce, whose order
        depends on where in the vector a number is.
        """
        part = -(-len(flat) // self.size)
        flat = torch.nn.functional.pad(flat, (0, part * self.size - len(flat)))
        parts, total = torch.empty_like(flat), torch.empty_like(flat)
        dist.all_to_all_single(parts, flat, group=self.group)
        first, *others = torch.split(parts, part)
        for other in others:
            first += other
        gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)  # the name before torch 2.13
        gather(total, first, group=self.group)
        return total

    def share(self, value: object) -> object:
        """The first process's value, on every process. JSON values only: nothing unpickles. Raises Lost."""
        if self.size == 1:
            return value
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor([len(text)])
        with _in_company():
            dist.broadcast(length, 0, self.group)
            if not self.first:
                text = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(text, 0, self.group)
        return json.loads(text.numpy().tobytes())

    def wait(self) -> None:
        """Return when every process has come this far. Raises Lost."""
        if self.size > 1:
            with _in_company():
                dist.all_reduce(torch.zeros(1), group=self.group)  # on the CPU: a barrier would pick a device


@contextmanager
def together() -> Iterator[World]:
    """Join the processes torchrun started, and take leave of them at the end; alone without torchrun.

    A UserError is told by the first process that has it: the others end quietly, with the same exit code.
    A process that fails just ends. That closes its connections, so that the others are `Lost`, at once.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())  # one device is visible to each under srun
        backend = "cpu:gloo,cuda:nccl"
    else:
        local_size = int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))
        threads = os.environ.get("SAFELIGHT_THREADS", "")  # torchrun sets OMP_NUM_THREADS itself
        torch.set_num_threads(int(threads) if threads.isdecimal() else max(1, _cores() // local_size))
    try:
        store, rank, size = next(rendezvous("env://", timeout=JOINING))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=JOINING)
        group = dist.new_group(timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"cannot join the other processes ({reason}); see docs/scaling.md") from error
    world = World(rank, size, local, group)
    try:
        yield world
        world.wait()
    except UserError as error:
        if not _reports_error(store, error):
            raise SystemExit(2) from error
        raise
    dist.destroy_process_group()  # after everybody has come here, so that every exit code is 0


class Counters(Protocol):
    """What is needed of the store in which the processes found each other."""

    def add(self, key: str, amount: int) -> int: ...


def _reports_error(store: Counters, error: UserError) -> bool:
    """Whether this process is the one to tell the error; of being lost, only if nobody told a reason."""
    try:
        if isinstance(error, Lost):
            return _unsaid(store, "lost") and store.add("safelight/told", 0) == 0
        store.add("safelight/told", 1)
        return _unsaid(store, str(error))
    except RuntimeError:
        return True  # the store has ended with its process: better twice than never


def _unsaid(store: Counters, words: str) -> bool:
    """Whether nobody has asked this of these words before."""
    return store.add(f"safelight/said/{words}", 1) == 1


@contextmanager
def _in_company() -> Iterator[None]:
    """Turns a broken connection into `Lost`."""
    try:
        yield
    except RuntimeError as error:
        raise Lost(
            "another process of this run has ended, so this one stops too; "
            "fix the cause, then run: safelight resume"
        ) from error


def _cores() -> int:
    """CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Losses over the whole batch, computed in parts: every part sees all rows, its own ones differentiable
# A recording pass without gradients collects what each part gathers; keyed draws make the repeat exact.
# In the second pass the own rows are live and the others constant. A loss over all B rows is then computed
# by every one of the n = parts x processes; each takes 1/n of it, and own rows, which only their own part
# can differentiate, have their gradient multiplied by n.

Gather = Callable[[Tensor], Tensor]


def alone(rows: Tensor) -> Tensor:
    """The gather of a batch that is in one part: all rows are own rows."""
    return rows


def refused(rows: Tensor) -> Tensor:
    """The gather of a phase that did not declare `whole`."""
    raise RuntimeError("moment.gather: this phase must be declared with whole=True")


class Recording:
    """First pass over the parts of this process: keeps what is gathered, in the order of the calls."""

    def __init__(self) -> None:
        self._calls: list[list[tuple[range, Tensor]]] = []

    def of(self, part: Batch) -> Gather:
        """The gather of one part. What it returns has the right shape, not the right values."""
        position = 0

        def gather(rows: Tensor) -> Tensor:
            nonlocal position
            if position == len(self._calls):
                self._calls.append([])
            self._calls[position].append((part.rows, rows.detach().clone()))
            position += 1
            return rows.detach()[torch.arange(part.total, device=rows.device) % rows.shape[0]]

        return gather

    def whole(self, total: int, world: World) -> list[Tensor]:
        """What each call gathered, (B, ...), from all parts of all processes."""
        tables = []
        for call in self._calls:
            table = call[0][1].new_zeros(total, *call[0][1].shape[1:])
            for rows, values in call:
                table[rows.start : rows.stop] = values
            tables.append(table)
        world.sum_(tables)
        return tables


def replaying(part: Batch, recorded: list[Tensor], shares: int) -> Gather:
    """Second pass: recorded rows around the live rows of this part, whose gradient is times `shares`."""
    calls = iter(recorded)

    def gather(rows: Tensor) -> Tensor:
        table = next(calls).to(rows.dtype)
        live = rows.detach() + shares * (rows - rows.detach())
        return torch.cat([table[: part.rows.start], live, table[part.rows.stop :]])

    return gather
