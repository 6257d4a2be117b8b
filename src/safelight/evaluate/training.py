"""Training of the small networks that measure: once for each data set, then kept in the cache.

None of them is ever the training signal of a generator. Each is a pure function of its data (and of the
machine's arithmetic): weights, order and views are drawn by name, under the name of the network.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.data.cache import cache_dir
from safelight.data.source import Progress, key
from safelight.evaluate.features import BATCH, pixels_of
from safelight.randomness import RowDraw, permutation
from safelight.store.durable import publish

Network = TypeVar("Network", bound=nn.Module)


def trained_once(
    name: str,
    facts: tuple[object, ...],
    network: nn.Module,
    device: torch.device,
    train: Callable[[], object],
) -> Any:
    """What `train` returned for the network trained on these facts: plain JSON.

    The weights come from the cache, or `train` makes them now. Leaves the network frozen, on the device.
    facts: all that the weights follow from, a version of network and training among them.
    """
    path = cache_dir("extractors") / f"{name}-{key(name, *facts)[:16]}.safetensors"
    with FileLock(f"{path}.lock"):
        known = _load(path, network)
        network.to(device)
        if known is None:
            known = json.dumps(train())
            _save(path, network, known)
    network.eval().requires_grad_(False)
    return json.loads(known)


def initialised(name: str, make: Callable[[], Network], layer: str = "layer {}") -> Network:
    """A network whose weights are named draws (He et al. 2015): torch's own generator is left alone.

    layer: how the draw of a layer is called, by the layer's name in the network.
    """
    with torch.device("meta"):
        network = make()
    network.to_empty(device="cpu")
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            outputs, *inputs = module.weight.shape
            weight = RowDraw(0, 0, name, range(outputs)).normal(layer.format(name), *inputs)
            module.weight.data.copy_(weight * math.sqrt(2 / math.prod(inputs)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def fit(
    network: nn.Module, loss: Callable[[int], Tensor], name: str, progress: Progress | None,
    *, steps: int, batch: int, lr: float, weight_decay: float, warm_up: float,
) -> None:  # fmt: skip
    """AdamW on loss(step), a scalar; lr rises for `warm_up` steps and falls as a cosine.

    name: of the network on the progress bar, which counts images, `batch` a step. Ends in evaluation mode.
    """
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=weight_decay, fused=True)
    network.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / warm_up) * (1 + math.cos(math.pi * step / steps)) / 2
        optimiser.zero_grad()
        loss(step).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if progress and (step % 10 == 0 or step == steps - 1):
            progress(f"training the {name}", (step + 1) * batch, steps * batch)
    network.eval()


def shuffled(items: NDArray[np.int64], count: int, name: str, whole: int = 1) -> NDArray[np.int64]:
    """(count,) items, one keyed permutation of them after another.

    whole: items in a batch that is to lie in one permutation: where this ends, it goes on at its beginning.
    """
    place = np.arange(count)
    epoch = (place - place % whole) // len(items)
    orders = np.stack([permutation(len(items), name, number) for number in range(epoch[-1] + 1)])
    chosen: NDArray[np.int64] = items[orders[epoch, place % len(items)]]
    return chosen


def shifted(pixels: Tensor, draw: RowDraw, most: int) -> Tensor:
    """Images (b, C, H, W) moved by up to `most` pixels either way, each by its own draw, edges repeated."""
    count, _, height, width = pixels.shape
    moves = draw.integers("shift", 2 * most + 1, 2) - most
    rows = (torch.arange(height) + moves[:, :1]).clamp(0, height - 1)  # (b, H)
    columns = (torch.arange(width) + moves[:, 1:]).clamp(0, width - 1)  # (b, W)
    return pixels.permute(0, 2, 3, 1)[
        torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    ].permute(0, 3, 1, 2)


def averaged_down(pixels: Tensor, largest: int) -> Tensor:
    """uint8 (b, C, H, W) -> float32 in [-1, 1], smaller where a side is above `largest` pixels."""
    x = pixels.float() / 127.5 - 1
    if (larger := max(x.shape[2:])) > largest:
        height, width = (max(1, round(side * largest / larger)) for side in x.shape[2:])
        x = F.interpolate(x, (height, width), mode="area")
    return x


def chunks(
    images: NDArray[np.uint8], items: Sequence[int] | NDArray[np.int64], device: torch.device
) -> Iterator[Tensor]:
    """Some of the images (n, H, W, C), BATCH at a time, as a network takes them: (b, C, H, W)."""
    for start in range(0, len(items), BATCH):
        yield pixels_of(images[items[start : start + BATCH]]).to(device)


def weights_hash(network: nn.Module) -> str:
    """16 hexadecimal digits that stand for every bit of a network's state."""
    digest = blake2b(digest_size=8)
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _save(path: Path, network: nn.Module, known: str) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, partial, {"known": known})
    publish(partial, path)


def _load(path: Path, network: nn.Module) -> str | None:
    """Copy the stored weights into the network. Returns what is known of it, None if there are none."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return str(file.metadata()["known"])
    except (OSError, safetensors.SafetensorError, KeyError, RuntimeError, TypeError):
        return None  # absent, cut off, or not ours: trained anew
