"""Weights to begin with, of another run or from files: what fits is taken, what grew is grown.

A network finds its tensors by name below the prefix under which most of its names are. Where shapes differ,
functional/growth.py has the rules; which dimensions are channels of the image or values of a condition is
found by building the networks for one more of them, on no device.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from safelight.config import UserError
from safelight.engine.adapters import merged_tensors
from safelight.functional.growth import Axis, axis_map, grown, matched, sides
from safelight.loading.dependencies import Product
from safelight.loading.init_source import tensors_of
from safelight.loading.recorded import spec_of
from safelight.recipe import Init
from safelight.types import DataSpec, Method

NAMED = 4  # tensors that a line names
SHARE = 0.1  # of a network's tensors that files need, where nothing in them has the network's name


@dataclass
class Taken:
    """What became of every tensor of one network."""

    taken: list[str] = field(default_factory=list)
    grown: dict[str, str] = field(default_factory=dict)  # and how
    new: dict[str, str] = field(default_factory=dict)  # and why
    left: list[str] = field(default_factory=list)  # of the source

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Transfer:
    """Puts the weights of a source into networks as they are built. `report` says what became of each."""

    def __init__(self, product: Product, init: Init, method: Method, spec: DataSpec) -> None:
        """Raises UserError for a source that cannot be read."""
        self.product, self.init, self.spec = product, init, spec
        self.source_spec = spec_of(product.directory) if product.run else None
        self.tensors = tensors_of(product, init.weights)
        self.frozen = set(method.frozen)
        self.axes = _Axes(method, spec)
        self.report: dict[str, Taken] = {}

    @torch.no_grad()
    def __call__(self, nets: Mapping[str, nn.Module]) -> None:
        """Copy into the networks, in place."""
        self.report = {}
        for role, net in nets.items():
            if role not in self.frozen:
                self._network(role, net)

    def _network(self, role: str, net: nn.Module) -> None:
        became = self.report[role] = Taken()
        state = net.state_dict()
        adapted = any(key.endswith("lora_A") for key in state)
        tensors = self.tensors if adapted else merged_tensors(self.tensors)
        prefix = _prefix(role, state, tensors)
        modules, shuffled = dict(net.named_modules()), _shuffled(net)
        for key, fresh in state.items():
            name = f"{role}.{key}"
            source = tensors.get(prefix + key) if prefix is not None else None
            if not any(fnmatchcase(name, pattern) for pattern in self.init.take) or any(
                fnmatchcase(name, pattern) for pattern in self.init.skip
            ):
                became.new[key] = "not to be taken"
            elif source is None:
                became.new[key] = "not in the source"
            elif not source.isfinite().all():
                became.new[key] = "not finite in the source"
            else:
                module, _, leaf = key.rpartition(".")
                self._tensor(became, key, fresh, source, modules[module], leaf, shuffled.get(module, 1), name)
        used = {prefix + key for key in (*became.taken, *became.grown)} if prefix is not None else set()
        mine = [key for key in tensors if prefix is not None and key.startswith(prefix)]
        became.left = [key for key in mine if key not in used]

    def _tensor(
        self, became: Taken, key: str, fresh: Tensor, source: Tensor, module: nn.Module, leaf: str,
        block: int, name: str,
    ) -> None:  # fmt: skip
        if source.ndim != fresh.ndim:
            became.new[key] = f"{tuple(source.shape)} in the source, {tuple(fresh.shape)} here"
            return
        maps: dict[int, Tensor] = {}
        fill: dict[int, bool] = {}
        how = []
        for dimension, side in enumerate(sides(module, leaf, fresh.ndim)):
            target, size = fresh.shape[dimension], source.shape[dimension]
            kind, per_channel, per_value = self.axes.of(name, dimension)
            values = self._values(kind) if kind else None
            there = self.source_spec.shape[0] if self.source_spec else size // max(per_channel, 1)
            channels = (self.spec.shape[0], there)
            changes = bool(per_channel) and channels[0] != channels[1]
            if target == size and not changes and (values is None or _is_identity(values)):
                continue
            if dimension >= 2 or not fresh.is_floating_point() or (per_value and values is None):
                became.new[key] = f"{tuple(source.shape)} in the source, {tuple(fresh.shape)} here"
                return
            axis = Axis(
                side,
                per_channel if changes or values is not None else 0,
                per_value,
                block if side == "out" else 1,
            )
            matrix = axis_map(axis, target, size, channels, values)
            if matrix is None or not matrix.any():
                became.new[key] = f"{size} to {target} in dimension {dimension}"
                if values is not None and not values.any():
                    became.new[key] = f"no {kind} has the name of one in the source"
                return
            maps[dimension] = matrix
            fill[dimension] = side != "in" or kind == "label"
            if values is not None and not _is_identity(values):
                how.append(f"{int(values.sum())} of {len(values)} by name of {kind}")
            elif changes:
                how.append(f"{channels[1]} to {channels[0]} channels")
            else:
                how.append(f"{target / size:g} times as wide")
        if maps:
            fresh.copy_(grown(fresh.cpu(), source, maps, fill))
            became.grown[key] = ", ".join(dict.fromkeys(how))
        else:
            fresh.copy_(source)
            became.taken.append(key)

    def _values(self, kind: str) -> Tensor | None:
        """Which value of a condition is which of the source's; None where that is not known."""
        here = self.spec.conditions[kind]
        there = self.source_spec.conditions.get(kind) if self.source_spec else None
        if there is None or not here.names or not there.names:
            same = self.source_spec is None or (there is not None and there.size == here.size)
            return torch.eye(here.size, dtype=torch.float64) if same else None
        return matched(here.names, there.names)

    @property
    def nothing(self) -> bool:
        """Whether no tensor was taken."""
        return not any(became.taken or became.grown for became in self.report.values())

    @property
    def source(self) -> str:
        """The source in words."""
        step = f", step {self.product.step:,}" if self.product.run else ""
        weights = f", {self.init.weights} weights" if self.product.run else ""
        return f"{self.product.run or self.product.reference}{step}{weights} ({self.product.digest[:12]})"

    def lines(self) -> list[str]:
        """What became of the tensors, as a table and what is to be known of it."""
        table = [f"weights to begin with: {self.source}",
                 f"  {'network':16}{'taken':>7}{'grown':>7}{'new':>7}{'left':>7}"]  # fmt: skip
        notes = []
        for role, became in self.report.items():
            counts = (len(each) for each in (became.taken, became.grown, became.new, became.left))
            table.append(f"  {role:16}" + "".join(f"{count:7,}" for count in counts))
            for title, about in (("grown", became.grown), ("new", became.new)):
                for why in dict.fromkeys(about.values()):
                    named = _listed([f"{role}.{key}" for key in about if about[key] == why])
                    notes += [f"  {title}, {why}: {named}"]
            notes += [f"  left: {_listed(became.left)}"] if became.left else []
        return table + notes

    def facts(self) -> dict[str, Any]:
        """What a run records of it."""
        run = self.product.directory.info().id if self.product.run else None
        return {**asdict(self.product), "id": run, "weights": self.init.weights,
                "networks": {role: became.to_dict() for role, became in self.report.items()}}  # fmt: skip


def _is_identity(matrix: Tensor) -> bool:
    return matrix.shape[0] == matrix.shape[1] and torch.equal(
        matrix, torch.eye(len(matrix), dtype=matrix.dtype)
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _prefix(role: str, state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str | None:
    """Below which prefix of the source a network finds most of its names; None for none."""
    prefixes = {""}
    for key in tensors:
        parts = key.split(".")[:-1]
        prefixes |= {".".join(parts[: depth + 1]) + "." for depth in range(min(len(parts), 4))}
    named = [prefix for prefix in prefixes if role in prefix.split(".")]
    hits = {prefix: sum(prefix + key in tensors for key in state) for prefix in sorted(named or prefixes)}
    best = max(hits, key=lambda prefix: hits[prefix])
    return best if hits[best] > (0 if named else SHARE * len(state)) else None


def _shuffled(net: nn.Module) -> dict[str, int]:
    """Layers that a pixel shuffle follows, and how many of their channels become one."""
    blocks = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Sequential):
            children = list(module.named_children())
            for (layer, _), (_, after) in pairwise(children):
                if isinstance(after, nn.PixelShuffle):
                    blocks[f"{name}.{layer}".strip(".")] = after.upscale_factor**2
    return blocks


class _Axes:
    """Which dimensions of which tensors hold channels of the image, or values of a condition."""

    def __init__(self, method: Method, spec: DataSpec) -> None:
        before = _shapes(method, spec)
        channels, height, width = spec.shape
        changed = {"": replace(spec, shape=(channels + 1, height, width))}
        for kind, condition in spec.conditions.items():
            names = (*condition.names, "one more") if condition.names else ()
            more = replace(condition, size=condition.size + 1, names=names)
            changed[kind] = replace(spec, conditions={**spec.conditions, kind: more})
        self.units: dict[tuple[str, int], dict[str, int]] = {}
        for kind, other in changed.items():
            for key, shape in _shapes(method, other).items():
                for dimension, (size, was) in enumerate(zip(shape, before.get(key, shape), strict=True)):
                    if size > was:
                        self.units.setdefault((key, dimension), {})[kind] = size - was

    def of(self, key: str, dimension: int) -> tuple[str, int, int]:
        """The condition that a dimension holds, or ""; entries a channel, and entries a value."""
        units = dict(self.units.get((key, dimension), {}))
        per_channel = units.pop("", 0)
        kind = next(iter(units), "")
        return kind, per_channel, units.get(kind, 0)


def _shapes(method: Method, spec: DataSpec) -> dict[str, tuple[int, ...]]:
    """Of every tensor by "network.name"; none where the networks cannot be built for such data."""
    with torch.device("meta"), warnings.catch_warnings(), suppress(UserError, RuntimeError, ValueError):
        warnings.simplefilter("ignore")
        nets = copy.deepcopy(method).networks(spec)
        return {f"{role}.{key}": tuple(value.shape) for role, net in nets.items()
                for key, value in net.state_dict().items()}  # fmt: skip
    return {}
