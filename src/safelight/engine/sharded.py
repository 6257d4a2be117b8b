"""Networks larger than a device: parameters, averages and moments cut over the processes, by PyTorch's FSDP2.

A whole `State` in the host's memory is what a run begins or resumes with, and what checkpoints, sheets and
films are made of; `ShardedState` trains this process's part of it, and is gathered into the first process's
whole one where that is due. The bits of a step differ from those of whole networks by the order of a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.ema import Averages
from safelight.engine.fingerprint import WeightFingerprint
from safelight.engine.optim import NetworkOptimiser
from safelight.engine.plan import Plan
from safelight.engine.state import State
from safelight.types import Method

KINDS = ("adamw", "adam")  # whose updates know nothing of a number's neighbours


def require_shardable(plan: Plan, method: Method) -> None:
    """Raises UserError for a recipe whose networks cannot be cut."""
    if not plan.train.shard:
        return
    if len(method.phases) != 1 or method.phases[0].whole:
        raise UserError("train.shard: is for methods of one phase, such as diffusion; remove the key")
    if other := [optim.kind for optim in plan.optim.values() if optim.kind not in KINDS]:
        raise UserError(f'train.shard: optim.kind={other[0]} needs whole parameters; set optim.kind="adamw"')
    if plan.train.lora or plan.train.freeze:
        raise UserError("train.shard: does not go with train.lora and train.freeze; remove one of them")
    if plan.train.compile not in ("auto", False):
        raise UserError("train.shard: does not go with train.compile; set train.compile=false")
    if plan.train.memory_format == "channels_last":
        raise UserError('train.shard: needs train.memory_format="contiguous"')


class ShardedState:
    """This process's part of a state, as the loop trains it."""

    compiled = False

    def __init__(self, whole: State, method: Method, plan: Plan, world: World, device: torch.device) -> None:
        self.step, self.device, self._world = whole.step, device, world
        self.memory = {name: value.to(device) for name, value in whole.memory.items()}
        self.scales = {name: scale.to(device) for name, scale in whole.scales.items()}
        self.nets: dict[str, nn.Module] = {}
        self.optimisers: dict[str, NetworkOptimiser] = {}
        self._parts: list[tuple[Tensor, Tensor]] = []  # a part here, and the whole tensor it is of
        self._copies: list[tuple[Tensor, Tensor]] = []  # what every process has whole
        self._gradients: list[tuple[nn.Parameter, nn.Parameter]] = []  # a part, and FSDP's parameter
        live: dict[str, list[nn.Parameter]] = {}
        for name, net in whole.nets.items():
            self.nets[name] = deepcopy(net)
            if name not in whole.optimisers:
                self.nets[name].to(device)
                continue
            self._shard(self.nets[name])
            live[name] = []
            for parameter, original in zip(self.nets[name].parameters(), net.parameters(), strict=True):
                part = nn.Parameter(parameter.to_local())  # type: ignore[attr-defined]  # the same memory
                self._gradients.append((part, parameter))
                self._parts.append((part, original))
                live[name].append(part)
            optimiser = NetworkOptimiser(nn.ParameterList(live[name]), plan.optim[name].kind)
            optimiser.whole = self._norm
            self.optimisers[name] = optimiser
            mine, others = optimiser.tensors(), whole.optimisers[name].tensors()
            for key, tensor in mine.items():
                (self._copies if tensor.ndim == 0 else self._parts).append((tensor, others[key]))
            self._copies += zip(self.nets[name].buffers(), net.buffers(), strict=True)
        self.averages = _CutAverages(whole.averages, live, self.nets, self._cut, device)
        self._parts += zip(self.averages.parts, whole.averages.parts, strict=True)
        self._copies += self.averages.copies
        with torch.no_grad():
            for here, of in self._parts:
                here.copy_(self._cut(of))
            for here, of in self._copies:
                here.copy_(of)

    def fingerprint(self) -> Callable[[], Tensor]:
        """The fingerprint of the whole weights, on every process."""
        return _CutFingerprint(self.nets, self._world)

    def collect(self) -> None:
        """Take over the gradients, which FSDP has summed over the processes."""
        for part, parameter in self._gradients:
            gradient, parameter.grad = parameter.grad, None
            part.grad = torch.zeros_like(part) if gradient is None else gradient.to_local()  # type: ignore[attr-defined]

    @torch.no_grad()
    def gather_into(self, whole: State) -> None:
        """Make the first process's whole state that of now. Every process calls it. Raises Lost."""
        for here, of in self._parts:
            parts = self._world.gather(_padded(here, _rows(of, self._world)))
            if parts:
                of.copy_(torch.cat(parts)[: len(of)])
        for here, of in self._copies:
            of.copy_(here)
        whole.memory = {name: value.to(whole.device) for name, value in self.memory.items()}
        whole.scales = {name: scale.to(whole.device) for name, scale in self.scales.items()}
        whole.step = self.step

    def _shard(self, net: nn.Module) -> None:
        """Cut a network in place: its blocks one by one, then what is left."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        if any(not parameter.ndim for parameter in net.parameters()):
            raise UserError("train.shard: a parameter of this network is a single number; remove the key")
        mesh = init_device_mesh(self.device.type, (self._world.size,))
        for block in [part for part in net.modules() if getattr(part, "recomputable", False)]:
            fully_shard(block, mesh=mesh)
        fully_shard(net, mesh=mesh)
        for part in net.modules():
            if isinstance(part, FSDPModule):  # a sum: losses are divided by the global batch already
                part.set_force_sum_reduction_for_comms(True)
                part.set_gradient_divide_factor(1.0)

    def _cut(self, whole: Tensor) -> Tensor:
        """This process's part of a tensor: rows, as torch.chunk cuts them; maybe none."""
        rows = _rows(whole, self._world)
        return whole.detach()[rows * self._world.rank : rows * (self._world.rank + 1)]

    def _norm(self, norm: Tensor) -> Tensor:
        """The norm of whole gradients, from that of this process's parts."""
        squared = norm.square()
        self._world.sum_([squared])
        return squared.sqrt()


class _CutAverages(Averages):
    """Averages of parts."""

    def __init__(
        self, whole: Averages, live: dict[str, list[nn.Parameter]], nets: dict[str, nn.Module],
        cut: Callable[[Tensor], Tensor], device: torch.device,
    ) -> None:  # fmt: skip
        def parts_of(tensors: Sequence[Tensor]) -> list[Tensor]:
            return [cut(tensor).to(device, copy=True) for tensor in tensors]

        self.decay, self.networks, self._names = whole.decay, {}, whole._names
        self._others, self._ids = (), []
        self._live = [part.detach() for name in whole.networks for part in live[name]]
        self._average = parts_of(whole._average)
        self._tracks = {length: parts_of(track) for length, track in whole._tracks.items()}
        self._live_buffers = [buffer for name in whole.networks for buffer in nets[name].buffers()]
        self._buffers = [buffer.clone() for buffer in self._live_buffers]
        self.copies = [*zip(self._buffers, whole._buffers, strict=True)]


class _CutFingerprint(WeightFingerprint):
    """Of parts: each process adds up the bits of its own, at their places in the whole."""

    def __init__(self, nets: dict[str, nn.Module], world: World) -> None:
        whole = [p for name in sorted(nets) for p in nets[name].parameters()]
        bits, places = [], []
        for parameter in whole:
            local = getattr(parameter, "to_local", None)
            part = local() if local else parameter.detach() if world.first else parameter.detach()[:0]
            row = parameter[0].numel() if parameter.ndim else 1
            bits.append(part.detach().reshape(-1).view(torch.int32))
            places.append(_rows(parameter, world) * world.rank * row if local else 0)
        self._world = world
        self._set(bits, places)

    def _sums(self) -> Tensor:
        sums = super()._sums()
        self._world.sum_integers_(sums)
        return sums


def _rows(whole: Tensor, world: World) -> int:
    """Rows of a process's part; the last ones have fewer."""
    return -(-len(whole) // world.size)


def _padded(part: Tensor, rows: int) -> Tensor:
    """A part with as many rows as the first one."""
    part = part.detach()
    return torch.cat([part, part.new_zeros(rows - len(part), *part.shape[1:])]) if len(part) < rows else part
