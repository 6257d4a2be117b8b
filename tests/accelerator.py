"""A device that has no float64, as Apple's GPUs have none, on any machine: what it refuses fails there.

Its tensors say that they are on "meta", which every build of torch knows, and hold their numbers on the CPU.
They mix with tensors of the CPU as those of an accelerator do: not at all, but for numbers (0-d), indices and
copies.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from safelight import randomness
from safelight.engine import optim

DEVICE = torch.device("meta")
REFUSED = (torch.float64, torch.complex128)
MIXES = {
    torch.ops.aten.copy_,
    torch.ops.aten.index,
    torch.ops.aten.index_put_,
    torch.ops.aten._index_put_impl_,
}


INDEXED = {torch.ops.aten.index, torch.ops.aten.index_put_, torch.ops.aten._index_put_impl_}
NEEDS_VALUES = {
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.nonzero,
    torch.ops.aten.masked_select,
    torch.ops.aten.equal,
    torch.ops.aten.is_nonzero,
    torch.ops.aten._unique2,
}


class Float64(RuntimeError):
    """What such a device says to a double."""


class OnDevice(Tensor):
    """A tensor of the device; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        if held.dtype in REFUSED:
            raise Float64(f"the device has no {held.dtype}")
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=DEVICE
        )
        made.held = held
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.held!r})"

    def tolist(self) -> Any:  # torch has it for no class but its own
        return self.cpu().tolist()

    def numpy(self, **how: Any) -> Any:
        raise TypeError("a tensor of the device has no array; .cpu() first")


class Accelerator(TorchDispatchMode):
    """Where tensors that are asked for on DEVICE are `OnDevice`, and autocast knows it.

    waits: where the host would wait for the device, "operation at file:line", in the order they came.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []

    def __enter__(self) -> Accelerator:
        self.patches = [
            patch.object(torch, name, there(getattr(torch, name))) for name in ("tensor", "as_tensor")
        ]
        whole = torch.autocast
        self.patches.append(patch.object(torch, "autocast", lambda kind, **how: whole(known(kind), **how)))
        fused = [*optim.FUSED_DEVICES, DEVICE.type]
        self.patches.append(patch.object(optim, "FUSED_DEVICES", fused))
        self.patches.append(patch.object(optimizer, "_get_fused_kernels_supported_devices", lambda: fused))
        self.patches.append(patch.object(randomness, "ASYNCHRONOUS", {DEVICE.type}))
        self.patches.append(patch.dict(globals(), {"noted": self.waits}))
        for replaced in self.patches:
            replaced.start()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for replaced in self.patches:
            replaced.stop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


noted: list[str] = []  # of the accelerator that is in use


def note_wait(func: Any, args: Any, kwargs: Mapping[str, Any], on_device: bool) -> None:
    """Note an operation for which a host waits: a copy that blocks, or a size or value that it needs."""
    packet = func.overloadpacket
    if packet is torch.ops.aten._to_copy:
        there = torch.device(kwargs.get("device") or args[0].device) == DEVICE
        waits = there != on_device and not kwargs.get("non_blocking")
    elif packet is torch.ops.aten.copy_:
        crosses = isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice) and args[1].ndim
        waits = bool(crosses) and not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
    elif packet in INDEXED:
        indices = [index for index in args[1] if index is not None]
        waits = on_device and any(
            index.dtype in (torch.bool, torch.uint8) or not isinstance(index, OnDevice) for index in indices
        )
    else:
        waits = on_device and packet in NEEDS_VALUES
    if waits:
        frames = [frame for frame in traceback.extract_stack() if "/safelight/" in frame.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "a test"
        noted.append(f"{packet.__name__} at {place}")


def known(kind: str) -> str:
    """A kind of device that autocast has."""
    return "cpu" if kind == DEVICE.type else kind


def there(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.tensor, which makes nothing but shapes on "meta"."""

    def made(data: Any, dtype: torch.dtype | None = None, device: Any = None, **how: Any) -> Tensor:
        if device is None or torch.device(device) != DEVICE:
            return make(data, dtype=dtype, device=device, **how)
        return make(data, dtype=dtype, **how).to(DEVICE)

    return made


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation, on the device if a tensor of it takes part or the result is asked for there."""
    tensors: list[Tensor] = []
    held = held_of((args, kwargs), tensors)
    on_device = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, OnDevice)}
    wanted = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    if not on_device and wanted != DEVICE:
        return func(*args, **kwargs)
    note_wait(func, args, kwargs, bool(on_device))
    packet = func.overloadpacket
    if kwargs.get("dtype") in REFUSED:  # also on the way to the CPU: the device converts first
        raise Float64(f"{func}: the device has no {kwargs['dtype']}")
    if on_device:
        others = [tensor for tensor in tensors if not isinstance(tensor, OnDevice)]
        if any(tensor.dtype in REFUSED for tensor in others):
            raise Float64(f"{func}: a tensor of float64 meets one of the device")
        if packet not in MIXES and any(tensor.ndim for tensor in others):
            raise RuntimeError(f"{func}: a tensor is on the CPU, others are on the device")
    if packet is torch.ops.aten._fused_sdp_choice:
        return 0  # plain operations: the CPU's fused ones are not what a device is sent to
    own_args, own_kwargs = held
    if wanted is not None:
        own_kwargs["device"] = torch.device("cpu")
    out = func(*own_args, **own_kwargs)
    if packet is torch.ops.aten.copy_:
        return args[0]
    return out if wanted is not None and wanted != DEVICE else back(out, on_device)


def held_of(value: Any, tensors: list[Tensor]) -> Any:
    """Arguments with what tensors of the device hold; all tensors are noted. (torch's pytrees are slow.)"""
    if isinstance(value, Tensor):
        tensors.append(value)
        return value.held if isinstance(value, OnDevice) else value
    if isinstance(value, tuple | list):
        return type(value)([held_of(part, tensors) for part in value])
    if isinstance(value, dict):
        return {name: held_of(part, tensors) for name, part in value.items()}
    return value


def back(value: Any, on_device: Mapping[int, OnDevice]) -> Any:
    """What came of it, on the device; what was changed in place stays itself."""
    if isinstance(value, Tensor):
        return on_device[id(value)] if id(value) in on_device else OnDevice(value)
    if isinstance(value, tuple | list):
        return type(value)([back(part, on_device) for part in value])
    return value
