"""Which loss component a network's gradient comes from: a weight says little, its gradient's share all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from safelight.engine.distributed import alone, refused
from safelight.engine.loop import only_training
from safelight.engine.state import State
from safelight.randomness import RowDraw, reseed
from safelight.types import Batch, Method, Moment


def gradient_shares(
    method: Method,
    state: State,
    batch: Batch,
    weights: Mapping[str, float],
    autocast: Callable[[], AbstractContextManager[object]],
) -> dict[str, float]:
    """The share of each weighted component in the gradients of a network, by "network/component".

    Norms of single gradients, divided by their sum, on one batch in one part; lazy phases count by how much
    they give on the average. Nothing is changed. Networks that only one component trains are left out.
    """
    if sum(1 for weight in weights.values() if weight) < 2:
        return {}
    norms: dict[str, dict[str, float]] = {}
    for phase in method.phases:
        scale = state.scales[phase.name].scale if phase.name in state.scales else None
        reseed(0, "shares", phase.name)  # dropout; the loop keys every step anew
        draw = RowDraw(0, 0, f"shares {phase.name}", batch.rows, batch.x.device)
        moment = Moment(
            state.step,
            draw,
            state.memory,
            weights,
            alone if phase.whole else refused,
            lambda: torch.autocast(batch.x.device.type, enabled=False),
        )
        with only_training(state, phase.trains), _buffers_kept(state):
            with autocast():
                components, _ = phase.losses(state.nets, batch, moment)
            for name, values in components.items():
                for network in phase.trains:
                    total = weights[name] * values.float().mean()
                    norm = gradient_norm(total if scale is None else total * scale, state.nets[network])
                    norm = norm if scale is None else norm / float(scale)
                    norms.setdefault(network, {})[name] = norm
    totals = {network: sum(parts.values()) for network, parts in norms.items()}
    return {
        f"{network}/{name}": norm / totals[network]
        for network, parts in norms.items()
        if len(parts) > 1 and totals[network] > 0 and math.isfinite(totals[network])
        for name, norm in parts.items()
    }


@contextmanager
def _buffers_kept(state: State) -> Iterator[None]:
    """What a forward pass in training mode counts or averages is put back."""
    buffers = [(buffer, buffer.clone()) for net in state.nets.values() for buffer in net.buffers()]
    yield
    for buffer, before in buffers:
        buffer.copy_(before)


def gradient_norm(total: Tensor, network: nn.Module | Sequence[Tensor]) -> float:
    """The norm of the gradient of a number with respect to a network's parameters; 0 where there is none."""
    of = network.parameters() if isinstance(network, nn.Module) else network
    parameters = [parameter for parameter in of if parameter.requires_grad]
    if not total.requires_grad or not parameters:
        return 0.0
    gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
    return float(torch.nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None]))
