"""Optimisers of other packages, as parts of a `NetworkOptimiser`: their state in tensors that never move.

What a package keeps as a number (steps, a sum of weights) is a 0-d tensor in `counts` here, and is handed to
it before every step with all else, so that a state that was copied goes on as one that was never left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from safelight.config import UserError, install
from safelight.engine.plan import Optim

PACKAGES = {"schedule-free": "schedulefree", "soap": "pytorch_optimizer", "adamw-8bit": "bitsandbytes"}
LARGEST = 1024  # dimension that SOAP rotates; an eigenbasis of 6,000 takes minutes
BETAS = (0.9, 0.99)  # of construction; those of a step are set before it


def require_available(optim: Mapping[str, Optim], device: torch.device) -> None:
    """Raises UserError for a kind whose package is not installed, or that needs another device."""
    for kind in {settings.kind for settings in optim.values()} & PACKAGES.keys():
        if kind == "adamw-8bit" and device.type != "cuda":
            raise UserError(
                f'optim.kind = "{kind}" needs a CUDA device, not {device.type}; try optim.kind=adamw'
            )
        _package(kind)


def _package(kind: str) -> Any:
    try:
        return import_module(PACKAGES[kind])
    except ImportError as error:
        raise UserError(f'optim.kind = "{kind}" is an extra: {install("optimisers")}') from error


class ScheduleFree:
    """Schedule-free AdamW (Defazio 2024), by its authors. Parameters are y, where gradients are taken.

    z takes the steps; x, the weighted average of all z, is what is evaluated: y = β1 x + (1 - β1) z.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._inner = _package("schedule-free").AdamWScheduleFree(parameters, lr=0.0, betas=BETAS)
        self.param_groups: list[dict[str, Any]] = self._inner.param_groups
        self.state: dict[Tensor, dict[str, Tensor]] = {
            p: {"z": p.detach().clone(), "exp_avg_sq": torch.zeros_like(p)} for p in parameters
        }
        self._inner.state |= self.state
        self.counts = {name: torch.zeros((), dtype=torch.float64)
                       for name in ("k", "lr_max", "weight_sum", "beta1")}  # fmt: skip

    @torch.no_grad()
    def step(self) -> None:
        (group,) = self.param_groups
        beta1 = group["betas"][0]
        if self.counts["beta1"] not in (0, beta1):  # it was changed: x stays, y moves
            for p, x in zip(group["params"], self.average(), strict=True):
                p.copy_(torch.lerp(x, self.state[p]["z"], 1 - beta1))
        group |= {name: value.item() for name, value in self.counts.items() if name != "beta1"}
        group |= {"k": int(group["k"]), "train_mode": True}
        self._inner.step()
        for name, value in self.counts.items():
            value.fill_(beta1 if name == "beta1" else group[name])

    def average(self) -> list[Tensor]:
        """x of every parameter."""
        parameters = self.param_groups[0]["params"]
        beta1 = self.counts["beta1"].item()
        zs = [self.state[p]["z"] for p in parameters]
        return list(
            torch._foreach_lerp([p.detach() for p in parameters], zs, 1 - 1 / beta1 if beta1 else 1.0)
        )


class Soap:
    """SOAP (Vyas 2024): Adam in the eigenbasis of Shampoo's preconditioner, renewed every ten steps.

    Its first step makes the basis and moves nothing. Vectors and dimensions above `LARGEST` are not rotated.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        kind = _package("soap").SOAP
        self._inner = kind(parameters, lr=0.0, betas=BETAS, max_precondition_dim=LARGEST)
        self.param_groups: list[dict[str, Any]] = self._inner.param_groups
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        for p in parameters:
            self.state[p] = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            for number, size in enumerate(p.shape if p.ndim > 1 else ()):
                if size <= LARGEST:
                    self.state[p] |= {f"{name}.{number}": p.new_zeros(size, size) for name in ("GG", "Q")}
        self.counts = {"step": torch.zeros((), dtype=torch.int64)}

    @torch.no_grad()
    def step(self) -> None:
        (group,) = self.param_groups
        group["step"] = int(self.counts["step"])
        self._inner.state.clear()
        if group["step"]:
            for p, mine in self.state.items():
                self._inner.state[p] |= {
                    "exp_avg": mine["exp_avg"],
                    "exp_avg_sq": mine["exp_avg_sq"],
                    **{
                        name: [mine.get(f"{name}.{number}", []) for number in range(p.ndim)]
                        for name in ("GG", "Q")
                    },
                    "precondition_frequency": group["precondition_frequency"],
                    "shampoo_beta": group["betas"][1],
                }
        self._inner.step()
        for p, mine in self.state.items():
            for name, tensor in mine.items():
                key, _, number = name.partition(".")
                made = self._inner.state[p][key]
                if (made := made[int(number)] if number else made) is not tensor:
                    tensor.copy_(made)
        self.counts["step"] += 1


class Adam8bit:
    """AdamW of bitsandbytes, moments in 8 bits, in blocks of 256 (Dettmers 2022), from 4,096 values on."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._inner = _package("adamw-8bit").optim.AdamW8bit(parameters, lr=0.0, betas=BETAS)
        self.param_groups: list[dict[str, Any]] = self._inner.param_groups
        for number, p in enumerate(parameters):
            self._inner.init_state(self.param_groups[0], p, 0, number)
        self.state: dict[Tensor, dict[str, Tensor]] = {
            p: {
                name: value
                for name, value in self._inner.state[p].items()
                if name not in ("step", "qmap1", "qmap2")
            }
            for p in parameters
        }
        self.counts = {"step": torch.zeros((), dtype=torch.int64)}

    def step(self) -> None:
        for p in self.state:
            self._inner.state[p]["step"] = int(self.counts["step"])
        self._inner.step()
        self.counts["step"] += 1


FURTHER = {"schedule-free": ScheduleFree, "soap": Soap, "adamw-8bit": Adam8bit}
