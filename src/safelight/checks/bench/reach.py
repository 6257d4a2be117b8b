"""How far a network can answer: it is pushed, by training a copy of it to answer lower, and then higher."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from safelight.checks.bench.clock import Clock

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
