"""Losses over the whole batch, computed in parts: every part sees all rows, its own ones differentiable.

A recording pass without gradients collects what each part gathers; keyed draws make the repeat exact.
In the second pass the own rows are live and the others constant. A loss over all B rows is then computed
by every one of the n = parts x processes; each takes 1/n of it, and own rows, which only their own part
can differentiate, have their gradient multiplied by n.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from safelight.engine.distributed import World
from safelight.types import Batch

Gather = Callable[[Tensor], Tensor]


def alone(own: Tensor) -> Tensor:
    """The gather of a batch that is in one part: all rows are own rows."""
    return own


def refused(own: Tensor) -> Tensor:
    """The gather of a phase that did not declare `whole`."""
    raise RuntimeError("moment.gather: this phase must be declared with whole=True")


class Recording:
    """First pass over the parts of this process: keeps what is gathered, in the order of the calls."""

    def __init__(self) -> None:
        self._calls: list[list[tuple[range, Tensor]]] = []

    def of(self, part: Batch) -> Gather:
        """The gather of one part. What it returns has the right shape, not the right values."""
        position = 0

        def gather(own: Tensor) -> Tensor:
            nonlocal position
            if position == len(self._calls):
                self._calls.append([])
            self._calls[position].append((part.rows, own.detach().clone()))
            position += 1
            return own.detach()[torch.arange(part.total, device=own.device) % own.shape[0]]

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

    def gather(own: Tensor) -> Tensor:
        table = next(calls).to(own.dtype)
        live = own.detach() + shares * (own - own.detach())
        return torch.cat([table[: part.rows.start], live, table[part.rows.stop :]])

    return gather
