"""All that a step changes: weights, averages, optimiser moments and the method's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from safelight import randomness
from safelight.config import UserError
from safelight.engine.adapters import adapt, freeze
from safelight.engine.compiled import compile_networks, recompute_blocks
from safelight.engine.ema import Averages
from safelight.engine.fingerprint import WeightFingerprint
from safelight.engine.optim import NetworkOptimiser, optimisers
from safelight.engine.plan import Plan, Train
from safelight.engine.scaling import LossScale, scales_of
from safelight.types import DataSpec, Method, Remembers

Groups = dict[str, dict[str, Tensor]]


class State:
    """Training state after `step` steps.

    nets: the networks being trained, by name; averages.networks holds their averages.
    """

    def __init__(
        self,
        method: Method,
        spec: DataSpec,
        plan: Plan,
        device: torch.device,
        memory_format: str,
        start: Callable[[Mapping[str, nn.Module]], None] | None = None,
        compile: str = "off",
    ) -> None:
        """start: puts other weights into the networks as they are built, see loading/transfer.py.

        compile: the backend of torch.compile, see compiled.py.
        """
        self.step, self.device = 0, device
        self.nets = built(method, spec, plan.train, device, memory_format)
        if start:
            start(self.nets)
        freeze(self.nets, plan.train, trained(method))
        self.optimisers: dict[str, NetworkOptimiser] = optimisers(self.nets, method.phases, plan.optim)
        others = [
            optimiser.average for name, optimiser in self.optimisers.items()
            if name in method.ema and plan.optim[name].kind == "schedule-free"
        ]  # fmt: skip
        self.averages = Averages(self.nets, method.ema, plan.train.ema, plan.train.ema_lengths, others)
        remembered = method.memory() if isinstance(method, Remembers) else {}
        self.memory: dict[str, Tensor] = {name: value.to(device) for name, value in remembered.items()}
        self.scales: dict[str, LossScale] = {}  # by phase, of steps in fp16
        self._frozen = set(method.frozen)
        self.compiled = compile != "off"
        if plan.train.recompute:
            recompute_blocks({name: self.nets[name] for name in trained(method)})
        compile_networks(self.nets, compile)

    def fingerprint(self) -> Callable[[], Tensor]:
        """What gives the fingerprint of the weights as they are when it is called."""
        return WeightFingerprint(self.nets)

    def collect(self) -> None:
        """Gradients are where the optimisers look for them."""

    def groups(self) -> Groups:
        """What a checkpoint holds: one file a group. Frozen networks are not saved; they have a source."""
        scales = {f"{phase}.{key}": value for phase, scale in self.scales.items()
                  for key, value in scale.tensors().items()}  # fmt: skip
        return self._groups() | ({"scales": scales} if scales else {})

    def _groups(self) -> Groups:
        return {
            "networks": {f"{name}.{key}": value for name, net in self.nets.items() if name not in self._frozen
                         for key, value in net.state_dict().items()},
            "averages": self.averages.tensors(),
            "optimisers": {f"{name}.{key}": value for name, optimiser in self.optimisers.items()
                           for key, value in optimiser.tensors().items()},
            "memory": dict(self.memory),
        }  # fmt: skip

    @torch.no_grad()
    def load(self, groups: Mapping[str, Mapping[str, Tensor]], step: int) -> None:
        """Copy a checkpoint into this state. Raises UserError where names or shapes do not fit."""
        for group, mine in self._groups().items():
            stored = groups.get(group, {})
            if mine.keys() != stored.keys():
                name = sorted(mine.keys() ^ stored.keys())[0]
                raise UserError(f"checkpoint {step}: {group} does not fit this recipe (at {name!r})")
            for name, tensor in mine.items():
                if tensor.shape != stored[name].shape:
                    raise UserError(
                        f"checkpoint {step}: {name} is {tuple(stored[name].shape)}, "
                        f"this recipe has {tuple(tensor.shape)}"
                    )
                if tensor.dtype != stored[name].dtype:
                    raise UserError(f"checkpoint {step}: {name} is {stored[name].dtype}, not {tensor.dtype}")
                if tensor.is_floating_point() and not bool(stored[name].isfinite().all()):
                    raise UserError(f"checkpoint {step}: {name} is not finite; go back to an earlier step")
                tensor.copy_(stored[name])
        self.scales = scales_of(groups.get("scales", {}), self.device)
        self.step = step


def built(
    method: Method, spec: DataSpec, train: Train, device: torch.device, memory_format: str
) -> dict[str, nn.Module]:
    """The networks of a method as a run with this seed begins with them, with adapters. Raises UserError."""
    randomness.reseed(train.seed, "initial weights")
    # Converted before anything holds on to a parameter: `.to(memory_format)` swaps the storage.
    try:
        plain = method.networks(spec)
        adapt(plain, train, trained(method))
        nets: dict[str, nn.Module] = {
            name: net.to(device, memory_format=layout(memory_format))  # type: ignore[call-overload]
            for name, net in plain.items()
        }
    except (RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"network: cannot be built with these values ({why[:200]})") from error
    for name in method.frozen:
        nets[name].eval().requires_grad_(False)
    return nets


def trained(method: Method) -> list[str]:
    """The networks that phases train."""
    return sorted({name for phase in method.phases for name in phase.trains})


def layout(memory_format: str) -> torch.memory_format:
    """torch's constant for "contiguous" or "channels_last"."""
    return torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
