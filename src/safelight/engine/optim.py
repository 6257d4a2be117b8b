"""An optimiser a network, whose learning rate is set at every step and never read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from safelight.engine.adapters import held
from safelight.engine.further_optimisers import FURTHER, ScheduleFree
from safelight.engine.plan import Optim, Plan, Rate
from safelight.types import Phase

FOLLOWS = ("lr", "weight_decay", "betas", "eps")  # settings that a group takes; some take the first two
FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


class NetworkOptimiser:
    """An optimiser over one network, with clipping and skipped non-finite steps.

    adamw, adam: torch's, fused. muon: torch's on matrices, and on convolutions flattened to (out, rest), at
    the size of AdamW's updates (Liu 2025); AdamW on embeddings and all else. adafactor: torch's, convolutions
    flattened. Others: further_optimisers.py. Its state exists from the start, so that a checkpoint is copied
    into it: `load_state_dict` would bring back the old learning rate and flags.
    """

    def __init__(self, network: nn.Module, kind: str) -> None:
        self.parameters = [parameter for parameter in network.parameters() if not held(parameter)]
        device = self.parameters[0].device if self.parameters else torch.device("cpu")
        self._flat: dict[int, nn.Parameter] = {}  # of a flattened view, by id, the parameter it is a view of
        self._views: dict[int, Tensor] = {}  # the other way
        embeddings = {id(part.weight) for part in network.modules() if isinstance(part, nn.Embedding)}
        matrices = [p for p in self.parameters if p.ndim > 1 and id(p) not in embeddings]
        if kind in ("muon", "adafactor", "adamw-8bit"):
            for parameter in matrices:
                view = _flattened(parameter.detach())
                self._flat[id(view)], self._views[id(parameter)] = parameter, view
        flat = [self._views[id(p)] for p in matrices if id(p) in self._views]
        rest = [p for p in self.parameters if id(p) not in self._views]
        self._parts: list[Any] = []  # each with param_groups, state by parameter, and step()
        if kind in FURTHER and self.parameters:
            self._parts = [FURTHER[kind]([self._views.get(id(p), p) for p in self.parameters])]
        elif kind == "adafactor":
            self._parts = [torch.optim.Adafactor([*flat, *rest], lr=0.0, foreach=False)]
        elif kind == "muon" and flat:
            self._parts = [torch.optim.Muon(flat, lr=0.0, adjust_lr_fn="match_rms_adamw")]
        if kind != "adafactor" and not (kind in FURTHER and self._parts) and (rest or not self._parts):
            adam = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
            self._parts.append(adam(rest, lr=0.0, fused=device.type in FUSED_DEVICES))
        self._fused = kind in ("adamw", "adam")
        self.whole: Callable[[Tensor], Tensor] = _alone  # the norm of all gradients, from that of these
        for part in self._parts:
            for group in part.param_groups:
                group["follows"] = FOLLOWS if "betas" in group else FOLLOWS[:2]
                if isinstance(part, torch.optim.Optimizer):
                    part.state |= {parameter: _beginning(part, parameter) for parameter in group["params"]}

    def step(self, settings: Optim, rate: Rate) -> Tensor:
        """One update from the gradients, which are then cleared. Returns the gradient norm, unclipped, 0-d.

        A step whose gradients are not finite is skipped: by adam and adamw on the device, without a
        synchronisation, by the others after one.
        """
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = self.whole(torch.nn.utils.get_total_norm(gradients))
        if settings.clip:
            torch._foreach_mul_(gradients, (settings.clip / (norm + 1e-6)).clamp(max=1.0))
        values = {
            "lr": rate.lr,
            "weight_decay": settings.weight_decay,
            "betas": rate.betas,
            "eps": settings.eps,
        }
        for group in self.groups:
            group |= {key: values[key] for key in group["follows"]}
        if self._fused:
            self._parts[0].found_inf = (~torch.isfinite(norm)).float()
            self._parts[0].step()
        elif bool(torch.isfinite(norm)):
            for view in self._views.values():
                gradient = self._flat[id(view)].grad
                view.grad = None if gradient is None else _flattened(gradient)
            for part in self._parts:
                part.step()
        for tensor in (*self.parameters, *self._views.values()):
            tensor.grad = None
        return norm

    @property
    def lr(self) -> float:
        """The learning rate that the last step used."""
        return float(self._parts[0].param_groups[0]["lr"])

    @property
    def groups(self) -> Sequence[dict[str, Any]]:
        """The parameter groups, each with the settings that the last step used; "follows" names them."""
        return [group for part in self._parts for group in part.param_groups]

    @property
    def held(self) -> set[int]:
        """The ids of the parameters that the groups change."""
        return {id(self._flat.get(id(p), p)) for group in self.groups for p in group["params"]}

    def average(self) -> dict[int, Tensor]:
        """What schedule-free AdamW evaluates in place of each parameter, by its id; {} for other kinds."""
        return {id(p): x for part in self._parts if isinstance(part, ScheduleFree)
                for p, x in zip(part.state, part.average(), strict=True)}  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """Moments and step counts, by parameter number; those of the whole by name."""
        state = {id(self._flat.get(id(tensor), tensor)): values
                 for part in self._parts for tensor, values in part.state.items()}  # fmt: skip
        counts = {key: value for part in self._parts for key, value in getattr(part, "counts", {}).items()}
        return counts | {f"{number}.{key}": value for number, parameter in enumerate(self.parameters)
                         for key, value in state[id(parameter)].items()}  # fmt: skip


def _alone(norm: Tensor) -> Tensor:
    return norm


def _flattened(tensor: Tensor) -> Tensor:
    """A tensor (out, ...) as a matrix (out, rest), a view of one that is contiguous or channels_last."""
    if tensor.ndim == 4 and not tensor.is_contiguous():
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.flatten(1)


def _beginning(optimiser: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """What torch makes of a parameter's state at its first step."""
    if isinstance(optimiser, torch.optim.Muon):
        return {"momentum_buffer": torch.zeros_like(parameter)}
    if isinstance(optimiser, torch.optim.Adafactor):
        step = {"step": torch.zeros((), dtype=torch.float32)}
        if parameter.ndim == 1:
            return step | {"variance": torch.zeros_like(parameter)}
        shape = parameter.shape
        return step | {
            "row_var": parameter.new_zeros(*shape[:-1], 1),
            "col_var": parameter.new_zeros(*shape[:-2], 1, shape[-1]),
        }
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }


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
