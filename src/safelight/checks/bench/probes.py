"""Networks seen from outside: what they are asked, what they answer, and answering in their place."""

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


@dataclass(frozen=True)
class Call:
    """One call of a network: `network(image, time, given, present)`, or whichever of them it takes."""

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
        for value in self.arguments[1:]:
            if isinstance(value, Tensor) and value.ndim == 1 and value.dtype != torch.bool:
                return value
        return None

    @property
    def given(self) -> Values:
        """The conditions, where the network takes a mapping of them; {} otherwise."""
        return next((value for value in self.arguments if isinstance(value, Mapping)), {})

    @property
    def present(self) -> Tensor | None:
        """(b,) bool."""
        for value in self.arguments:
            if isinstance(value, Tensor) and value.dtype == torch.bool and value.ndim == 1:
                return value
        return None


def first_rows(call: Call, count: int = 2) -> Call:
    """The call about the first rows only."""
    return Call(call.network, tuple(_slice(value, slice(count)) for value in call.arguments))


@contextmanager
def watching(nets: Nets, answers: bool = False) -> Iterator[list[Call]]:
    """The calls of some networks, in order. answers: keep what they answer too."""
    calls: list[Call] = []

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, arguments: Any, named: Any, answer: Any) -> None:
            own = tuple(map(_kept, (*arguments, *named.values())))
            calls.append(Call(name, own, answer if answers else None))

        return note

    handles = [net.register_forward_hook(hook(name), with_kwargs=True) for name, net in nets.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _kept(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {name: _kept(own) for name, own in value.items()}
    return value


class Stand(nn.Module):
    """Stands in for a network: answers with a function of the call, and keeps the calls."""

    def __init__(self, name: str, answer: Callable[[Call], Tensor]) -> None:
        super().__init__()
        self.name, self.answer = name, answer
        self.calls: list[Call] = []
        self.eval()

    def forward(self, *arguments: Any, **named: Any) -> Tensor:
        call = Call(self.name, (*arguments, *named.values()))
        self.calls.append(Call(self.name, tuple(map(_kept, call.arguments))))
        return self.answer(call)


class OneByOne(nn.Module):
    """A network asked about every row alone, so that it can mix none."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *arguments: Any, **named: Any) -> Any:
        length = next(len(value) for value in arguments if isinstance(value, Tensor) and value.ndim)
        rows = [
            self.network(*(_slice(value, slice(row, row + 1)) for value in arguments),
                         **{name: _slice(value, slice(row, row + 1)) for name, value in named.items()})
            for row in range(length)
        ]  # fmt: skip
        return _joined(rows)


def _slice(value: Any, rows: slice) -> Any:
    if isinstance(value, Tensor) and value.ndim:
        return value[rows]
    if isinstance(value, Mapping):
        return {name: _slice(own, rows) for name, own in value.items()}
    return value


def _joined(rows: list[Any]) -> Any:
    first = rows[0]
    if isinstance(first, Tensor):
        return torch.cat(rows)
    if isinstance(first, Mapping):
        return {name: _joined([row[name] for row in rows]) for name in first}
    return type(first)(_joined(list(own)) for own in zip(*rows, strict=True))


# --- Time budgets: a check says how long it may take, and what it leaves out for time is told ---


class OutOfTime(Exception):
    """What is left of a check would take longer than it may. The words say what was left out."""


class NotTold(Exception):
    """From outside nothing can be said: the method or network has another form. The words say which."""


class Clock:
    """Seconds that are left of a check's budget."""

    def __init__(self) -> None:
        self.begin(float("inf"))

    def begin(self, seconds: float) -> None:
        """A new budget."""
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.perf_counter()

    def afford(self, seconds: float, what: str) -> None:
        """Raises OutOfTime where so much is not left."""
        if seconds > self.left:
            raise OutOfTime(f"{what}: would take {seconds:.0f} s, {max(self.left, 0):.0f} s are left")


# How far a network can answer: it is pushed, by training a copy of it to answer lower, and then higher

STEPS = 40


RATE, FASTER = 3e-3, 1.15  # the learning rate of the push, and what it is multiplied by at every step


NEAR = 0.02  # of the distance between the limits: an answer that comes so near to one has reached it


def reach(
    network: nn.Module, answer: Callable[[nn.Module], Tensor], low: float, high: float, clock: Clock
) -> tuple[float, float]:
    """The least and greatest numbers that a network can be brought to answer, as far as `low` and `high`.

    answer: asks the network, on rows of its own. An end activation shows here whatever it is called: ReLU
    ends at 0, GELU at -0.17, tanh at -1 and 1.
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
        own = float((sign * out.detach()).amax())
        extreme = max(extreme, own) if own == own else extreme
        if extreme >= sign * limit or optimiser is None or own != own:
            break
        for group in optimiser.param_groups:
            group["lr"] = RATE * FASTER**step
        optimiser.zero_grad()
        (-sign * out).clamp(max=abs(limit) * 4 + 1).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return sign * extreme
