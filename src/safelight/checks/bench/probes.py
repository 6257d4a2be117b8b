"""Networks seen from outside: watch their calls, answer in their place, push them to their limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from safelight.types import Nets, Values

STEPS = 40  # of a push towards a limit
RATE, FASTER = 3e-3, 1.15  # learning rate of a push, and its factor at every step
NEAR = 0.02  # of the distance between the limits: an answer this close has reached one


class OutOfTime(Exception):
    """The rest of a check would take longer than its budget. The message says what is left out."""


class NotApplicable(Exception):
    """The method or network has a form that cannot be measured from outside. The message says which."""


class Clock:
    """Seconds that are left of a check's budget."""

    def __init__(self) -> None:
        self.begin(float("inf"))

    def begin(self, seconds: float) -> None:
        """Start a new budget."""
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.perf_counter()

    def afford(self, seconds: float, task: str) -> None:
        """Raises OutOfTime where less is left."""
        if seconds > self.left:
            raise OutOfTime(f"{task}: would take {seconds:.0f} s, {max(self.left, 0):.0f} s are left")


@dataclass(frozen=True)
class Call:
    """A call of a network: `network(image, time, given, present)`, or whichever of them it takes."""

    network: str
    arguments: tuple[Any, ...]
    answer: Any = None

    @property
    def tensors(self) -> list[Tensor]:
        return [value for value in self.arguments if isinstance(value, Tensor)]

    @property
    def image(self) -> Tensor | None:
        """The first argument, where it is a tensor of real numbers."""
        first = self.arguments[0] if self.arguments else None
        return first if isinstance(first, Tensor) and first.is_floating_point() else None

    @property
    def time(self) -> Tensor | None:
        """(b,) numbers beside the image: the noise level."""
        vectors = (value for value in self.arguments[1:] if isinstance(value, Tensor) and value.ndim == 1)
        return next((value for value in vectors if value.dtype != torch.bool), None)

    @property
    def given(self) -> Values:
        """The conditions, where the network takes a mapping of them; {} otherwise."""
        return next((value for value in self.arguments if isinstance(value, Mapping)), {})

    @property
    def present(self) -> Tensor | None:
        """(b,) bool."""
        return next((value for value in self.tensors if value.dtype == torch.bool and value.ndim == 1), None)


def first_rows(call: Call, count: int = 2) -> Call:
    """The call on its first rows only."""
    return Call(call.network, tuple(_rows(value, slice(count)) for value in call.arguments))


@contextmanager
def watching(nets: Nets, answers: bool = False) -> Iterator[list[Call]]:
    """The calls of some networks, in order. answers: keep what they answer too."""
    calls: list[Call] = []

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, arguments: Any, keywords: Any, answer: Any) -> None:
            detached = tuple(map(_detached, (*arguments, *keywords.values())))
            calls.append(Call(name, detached, answer if answers else None))

        return note

    handles = [net.register_forward_hook(hook(name), with_kwargs=True) for name, net in nets.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


class StandIn(nn.Module):
    """Stands in for a network: answers with a function of the call, and keeps the calls."""

    def __init__(self, name: str, answer: Callable[[Call], Tensor]) -> None:
        super().__init__()
        self.name, self.answer = name, answer
        self.calls: list[Call] = []
        self.eval()

    def forward(self, *arguments: Any, **keywords: Any) -> Tensor:
        call = Call(self.name, (*arguments, *keywords.values()))
        self.calls.append(Call(self.name, tuple(map(_detached, call.arguments))))
        return self.answer(call)


class RowByRow(nn.Module):
    """A network called on every row alone, so that it can mix none."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        length = next(len(value) for value in arguments if isinstance(value, Tensor) and value.ndim)
        return _joined(
            [
                self.network(*_rows(arguments, slice(row, row + 1)), **_rows(keywords, slice(row, row + 1)))
                for row in range(length)
            ]
        )


def _detached(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _detached(part) for name, part in value.items()}
    return value.detach() if isinstance(value, Tensor) else value


def _rows(value: Any, rows: slice) -> Any:
    if isinstance(value, Tensor) and value.ndim:
        return value[rows]
    if isinstance(value, tuple):
        return tuple(_rows(part, rows) for part in value)
    if isinstance(value, Mapping):
        return {name: _rows(part, rows) for name, part in value.items()}
    return value


def _joined(rows: list[Any]) -> Any:
    first = rows[0]
    if isinstance(first, Tensor):
        return torch.cat(rows)
    if isinstance(first, Mapping):
        return {name: _joined([row[name] for row in rows]) for name in first}
    return type(first)(_joined(list(parts)) for parts in zip(*rows, strict=True))


def reach(
    network: nn.Module, answer: Callable[[nn.Module], Tensor], low: float, high: float, clock: Clock
) -> tuple[float, float]:
    """The least and greatest numbers that a network can be trained to answer, as far as `low` and `high`.

    A copy is trained to answer lower, then another higher. answer: calls the network, on rows of its choice.
    An end activation shows here whatever it is called: ReLU ends at 0, GELU at -0.17, tanh at -1 and 1.
    """
    span = max(high - low, 1e-6)
    return (
        _push(network, answer, low + NEAR * span, -1, clock),
        _push(network, answer, high - NEAR * span, 1, clock),
    )


def _push(
    network: nn.Module, answer: Callable[[nn.Module], Tensor], limit: float, sign: int, clock: Clock
) -> float:
    """The extreme answer in a direction; pushing ends once it is past the limit."""
    copy = deepcopy(network).requires_grad_(True)
    parameters = list(copy.parameters())
    optimiser = torch.optim.Adam(parameters, lr=RATE) if parameters else None
    extreme = -float("inf")
    for step in range(STEPS):
        clock.afford(0, f"pushing towards {limit:.2g}")
        out = answer(copy).float()
        most = float((sign * out.detach()).amax())
        extreme = max(extreme, most) if most == most else extreme
        if extreme >= sign * limit or optimiser is None or most != most:
            break
        for group in optimiser.param_groups:
            group["lr"] = RATE * FASTER**step
        optimiser.zero_grad()
        (-sign * out).clamp(max=abs(limit) * 4 + 1).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return sign * extreme
