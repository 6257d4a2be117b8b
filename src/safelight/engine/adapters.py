"""What of the networks is trained: frozen parameters, and low-rank adapters (Hu 2021, LoRA).

An adapter adds scale B A to the weight of a linear layer or of a 1x1 convolution, A (r, in) random,
B (out, r) zero, so that a network starts as it was. The layer keeps the names of its weight and bias.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from safelight.config import UserError, nearest
from safelight.engine.plan import Train


class Adapted:
    """The tensors of an adapter; its layer is a linear one or a convolution."""

    lora_A: Tensor
    lora_B: Tensor
    lora_scale: Tensor  # (), alpha / r


class AdaptedLinear(Adapted, nn.Linear):
    """(..., in) -> (..., out)."""

    def forward(self, x: Tensor) -> Tensor:
        low = F.linear(F.linear(x, self.lora_A), self.lora_B)
        return F.linear(x, self.weight, self.bias) + self.lora_scale.to(low.dtype) * low


class AdaptedConv(Adapted, nn.Conv2d):
    """(B, in, H, W) -> (B, out, H, W), each pixel by itself."""

    def forward(self, x: Tensor) -> Tensor:
        low = F.conv2d(F.conv2d(x, self.lora_A[:, :, None, None]), self.lora_B[:, :, None, None])
        return super().forward(x) + self.lora_scale.to(low.dtype) * low


def adapt(nets: Mapping[str, nn.Module], train: Train, trained: Iterable[str]) -> None:
    """Give layers of the trained networks adapters, in place. Raises UserError where none can have one."""
    if not train.lora:
        return
    count = 0
    for name in trained:
        for key, module in nets[name].named_modules():
            if not _is_adaptable(module) or not _matches(f"{name}.{key}", train.lora_layers or ("*",)):
                continue
            outputs, inputs = module.weight.shape[:2]
            module.lora_A = nn.Parameter(torch.empty(train.lora, inputs))
            module.lora_B = nn.Parameter(torch.zeros(outputs, train.lora))
            module.register_buffer("lora_scale", torch.tensor((train.lora_alpha or train.lora) / train.lora))
            nn.init.kaiming_uniform_(module.lora_A, a=math.sqrt(5))
            module.__class__ = AdaptedLinear if isinstance(module, nn.Linear) else AdaptedConv
            count += 1
    if not count:
        raise UserError("train.lora_layers: no linear layer and no 1x1 convolution has such a name")


def _is_adaptable(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        plain = (module.stride, module.groups) == ((1, 1), 1) and module.padding in (0, (0, 0))
        return module.kernel_size == (1, 1) and plain
    return type(module) is nn.Linear


def freeze(nets: Mapping[str, nn.Module], train: Train, trained: Iterable[str]) -> None:
    """Hold what `train.freeze` names, and in networks with adapters all but them. Raises UserError.

    Held parameters have no place in the optimiser. Norms that are held keep their statistics.
    """
    if not train.freeze and not train.lora:
        return
    matched: set[str] = set()
    names: list[str] = []
    for name in trained:
        parameters = dict(nets[name].named_parameters())
        adapted = any(_is_adapter(key) for key in parameters)
        for key, parameter in parameters.items():
            full = f"{name}.{key}"
            names.append(full)
            hits = {pattern for pattern in train.freeze or () if fnmatchcase(full, pattern)}
            matched |= hits
            with_them = _is_adapter(key) or _matches(full, train.lora_train or ())
            if hits or (adapted and not with_them):
                parameter.requires_grad_(False)
                parameter.held_fixed = True  # type: ignore[attr-defined]
        for module in nets[name].modules():
            if isinstance(module, _BatchNorm) and module.affine and held(module.weight):
                module.momentum = 0.0
    if missed := [pattern for pattern in train.freeze or () if pattern not in matched]:
        close = nearest(missed[0], names)
        raise UserError(f"train.freeze: {missed[0]!r} matches no parameter of a trained network{close}")


def held(parameter: Tensor) -> bool:
    """Whether a recipe freezes the parameter; others may be frozen by their network itself."""
    return bool(getattr(parameter, "held_fixed", False))


def _is_adapter(key: str) -> bool:
    return key.rpartition(".")[2] in ("lora_A", "lora_B")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def merged_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name with adapters added to the weights of their layers."""
    result = {key: value for key, value in tensors.items() if ".lora_" not in f".{key}"}
    for key, low in tensors.items():
        if key.rpartition(".")[2] == "lora_B":
            layer = key.removesuffix("lora_B")
            weight = result[f"{layer}weight"]
            delta = tensors[f"{layer}lora_scale"] * (low @ tensors[f"{layer}lora_A"])
            result[f"{layer}weight"] = weight + delta.reshape(weight.shape).to(weight.dtype)
    return result


def merged(net: nn.Module) -> nn.Module:
    """A copy of a network without adapters that does the same; the network itself where it has none."""
    if not any(isinstance(module, Adapted) for module in net.modules()):
        return net
    state, result = merged_tensors(net.state_dict()), deepcopy(net)
    for module in result.modules():
        if isinstance(module, AdaptedLinear | AdaptedConv):
            del module.lora_A, module.lora_B, module.lora_scale
            plain: Any = nn.Linear if isinstance(module, AdaptedLinear) else nn.Conv2d
            module.__class__ = plain
    result.load_state_dict(state)
    return result


def adapters(net: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The adapters of a network by peft's names, and peft's configuration of them. Both empty without any."""
    tensors: dict[str, Tensor] = {}
    layers = {name: module for name, module in net.named_modules()
              if isinstance(module, AdaptedLinear | AdaptedConv)}  # fmt: skip
    for name, layer in layers.items():
        for part, value in (("lora_A", layer.lora_A), ("lora_B", layer.lora_B)):
            shaped = value[:, :, None, None] if isinstance(layer, nn.Conv2d) else value
            tensors[f"base_model.model.{name}.{part}.weight"] = shaped.detach().cpu().contiguous()
    if not layers:
        return {}, {}
    first = next(iter(layers.values()))
    rank = first.lora_A.shape[0]
    return tensors, {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": float(first.lora_scale) * rank,
        "target_modules": sorted(layers),
        "lora_dropout": 0.0,
        "bias": "none",
    }
