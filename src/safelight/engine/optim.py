"""One fused Adam a network, whose learning rate is set at every step and never read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from safelight.engine.plan import Optim, Plan, Rate
from safelight.types import Phase

FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


class NetworkOptimiser:
    """Adam(W) over one network, with clipping and skipped non-finite steps.

    Its state exists from the start, so that a checkpoint is copied into it: `load_state_dict` would
    bring back the old learning rate and flags.
    """

    def __init__(self, network: nn.Module, kind: str) -> None:
        self.parameters = list(network.parameters())
        device = self.parameters[0].device if self.parameters else torch.device("cpu")
        adam = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
        self._adam = adam(self.parameters, lr=0.0, fused=device.type in FUSED_DEVICES)
        for parameter in self.parameters:
            self._adam.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    def step(self, settings: Optim, rate: Rate) -> Tensor:
        """One update from the gradients, which are then cleared. Returns the gradient norm, unclipped, 0-d.

        A step whose gradients are not finite is skipped on the device, without a synchronisation.
        """
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if settings.clip:
            torch._foreach_mul_(gradients, (settings.clip / (norm + 1e-6)).clamp(max=1.0))
        group = self._adam.param_groups[0]
        group["lr"], group["betas"] = rate
        group["eps"] = settings.eps
        group["weight_decay"] = settings.weight_decay
        self._adam.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        return norm

    @property
    def lr(self) -> float:
        """The learning rate that the last step used."""
        return float(self._adam.param_groups[0]["lr"])

    @property
    def groups(self) -> Sequence[Mapping[str, Any]]:
        """The optimiser's parameter groups, each with the settings that the last step used."""
        groups: list[dict[str, Any]] = self._adam.param_groups
        return groups

    def tensors(self) -> dict[str, Tensor]:
        """Moments and step counts, by parameter number."""
        return {f"{number}.{key}": value for number, parameter in enumerate(self.parameters)
                for key, value in self._adam.state[parameter].items()}  # fmt: skip


def rates(plan: Plan, phases: Sequence[Phase], step: int) -> dict[str, Rate]:
    """What the optimiser of each network uses at a step: its schedule, corrected for lazy phases."""
    weights = plan.weights_at(step)
    used = {}
    for name, optim in plan.optim.items():
        c = lazy_correction(name, phases, weights)
        first, second = optim.betas_at(step, plan.steps)
        used[name] = Rate(optim.lr_at(step, plan.steps, plan.epoch) * c, (first**c, second**c))
    return used


def lazy_correction(network: str, phases: Sequence[Phase], weights: Mapping[str, float]) -> float:
    """The factor c on the learning rate and the exponent c on the betas for lazily repeated phases.

    c = m / (m + Σ 1/every), m the every-step phases that train the network (Karras 2020, appendix B,
    for m = 1: 16/17 with R1 every 16 steps). Phases that make no step with the weights in force do not count.
    """
    every = [phase.every for phase in phases if network in phase.trains
             and (not phase.components or any(weights[name] for name in phase.components))]  # fmt: skip
    constant = sum(interval == 1 for interval in every)
    lazy = sum(1 / interval for interval in every if interval > 1)
    return constant / (constant + lazy) if constant and lazy else 1.0


def optimisers(
    nets: Mapping[str, nn.Module], phases: Sequence[Phase], optim: Mapping[str, Optim]
) -> dict[str, NetworkOptimiser]:
    """An optimiser for every network that a phase trains."""
    trained = {name for phase in phases for name in phase.trains}
    return {name: NetworkOptimiser(nets[name], optim[name].kind) for name in sorted(trained)}
