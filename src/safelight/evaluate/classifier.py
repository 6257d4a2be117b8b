"""Features of a small classifier, trained on the data's own labels once for each data set.

Its features know the data at hand, which ImageNet's do not, and its classes measure obedience. A pure
function of the data (and of the machine's arithmetic): weights, order and shifts are drawn by name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import safetensors
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import UserError
from safelight.data.cache import cache_dir, move_into_place
from safelight.data.pack import Pack
from safelight.data.source import Progress, key
from safelight.draw import RowDraw, permutation
from safelight.evaluate.features import BATCH, Extractor

VERSION = 1  # of the network and its training: another number trains anew
FEATURES = 128
LARGEST = 64  # pixels; larger images are averaged down to this
EPOCHS, FEWEST, MOST = 12, 16_000, 200_000  # images shown: so many epochs, between these
AUGMENTED = 4  # epochs from which on images are shifted, by up to
SHIFT = 2  # pixels
LR, WEIGHT_DECAY = 0.01, 0.02  # lr of batches of 256, by the square root of the size for others


def open_classifier(
    pack: Pack, device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> Extractor:
    """The classifier of a pack: the one in the cache, or trained now. Raises UserError without classes."""
    if pack.spec.classes < 2:
        raise UserError(
            f"features 'classifier': {pack.name} has no classes to learn; "
            "use features efficientnet, or data.labels = true"
        )
    train = pack.train[pack.present[pack.train]]
    held_out = pack.held_out[pack.present[pack.held_out]]
    name = key("classifier", VERSION, pack.fingerprint, train.tobytes(), held_out.tobytes())
    path = cache_dir("extractors") / f"classifier-{name[:16]}.safetensors"
    network = build(pack.spec.shape[0], pack.spec.classes)
    with FileLock(f"{path}.lock"):
        stored = load(path, network)
        if stored is None:
            tell(f"training a classifier on {len(train):,} images of {pack.name}, once")
            learn(network.to(device), pack, train, progress)
            accuracy = _accuracy(network, pack, held_out, device)
            save(path, network, accuracy)
            stored = accuracy
    network.to(device).eval().requires_grad_(False)
    body, head = network[:-1], network[-1]

    def see(pixels: Tensor) -> tuple[Tensor, Tensor]:
        features: Tensor = body(prepared(pixels))
        return features, head(features).argmax(1)

    rule = f"as it is, averaged down to {LARGEST} pixels where larger"
    return Extractor("classifier", weights_hash(network), rule, see, device, stored)


def build(channels: int, classes: int) -> nn.Sequential:
    """(b, C, H, W) in [-1, 1] -> class logits (b, classes); all but the last layer give the features."""

    def block(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    return initialised(
        lambda: nn.Sequential(
            *block(channels, 32, 5, stride=2),
            *block(32, 48),
            nn.MaxPool2d(2, ceil_mode=True),
            *block(48, 96),
            nn.MaxPool2d(2, ceil_mode=True),
            *block(96, FEATURES),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(FEATURES, classes),
        )
    )


def initialised(make: Callable[[], nn.Sequential]) -> nn.Sequential:
    """A network whose weights are named draws: torch's own generator is left alone."""
    with torch.device("meta"):
        network = make()
    network.to_empty(device="cpu")
    for index, layer in enumerate(network):
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            outputs, *inputs = layer.weight.shape
            draw = RowDraw(0, 0, "classifier", range(outputs))
            weight = draw.normal(f"layer {index}", *inputs) * math.sqrt(
                2 / math.prod(inputs)
            )  # He et al. 2015
            layer.weight.data.copy_(weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def prepared(pixels: Tensor) -> Tensor:
    """uint8 (b, C, H, W) -> float32 in [-1, 1], no side above LARGEST."""
    x = pixels.float() / 127.5 - 1
    if (larger := max(x.shape[2:])) > LARGEST:
        height, width = (max(1, round(side * LARGEST / larger)) for side in x.shape[2:])
        x = F.interpolate(x, (height, width), mode="area")
    return x.contiguous(memory_format=torch.channels_last)


def learn(network: nn.Sequential, pack: Pack, train: NDArray[np.int64], progress: Progress | None) -> None:
    """Train on labelled items: AdamW, warm-up and cosine, cross-entropy. Leaves the network as it ends."""
    device = next(network.parameters()).device
    images = min(MOST, max(FEWEST, EPOCHS * len(train)))
    batch = max(32, min(256, images // 400))
    steps = images // batch
    shift = SHIFT if images / len(train) > AUGMENTED else 0
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    peak = LR * math.sqrt(batch / 256)
    network.train()
    for step, items in enumerate(_batches(train, batch, steps)):
        pixels = torch.from_numpy(pack.images[items]).permute(0, 3, 1, 2)
        labels = torch.from_numpy(pack.given["label"][items]).to(device)
        if shift:
            pixels = shifted(pixels, RowDraw(0, step, "classifier", range(batch)), shift)
        for group in optimiser.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / (0.15 * steps)) * cosine(step / steps)
        optimiser.zero_grad()
        F.cross_entropy(network(prepared(pixels.to(device))), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if progress and (step % 10 == 0 or step == steps - 1):
            progress("training the classifier", (step + 1) * batch, steps * batch)


def cosine(share: float) -> float:
    """From 1 to 0 as the share of the steps that are done goes from 0 to 1."""
    return (1 + math.cos(math.pi * share)) / 2


def shifted(pixels: Tensor, draw: RowDraw, most: int) -> Tensor:
    """Images (b, C, H, W) moved by up to `most` pixels either way, each by its own draw, edges repeated."""
    count, _, height, width = pixels.shape
    moves = draw.integers("shift", 2 * most + 1, 2) - most
    rows = (torch.arange(height) + moves[:, :1]).clamp(0, height - 1)  # (b, H)
    columns = (torch.arange(width) + moves[:, 1:]).clamp(0, width - 1)  # (b, W)
    return pixels.permute(0, 2, 3, 1)[
        torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    ].permute(0, 3, 1, 2)


def weights_hash(network: nn.Module) -> str:
    """16 hexadecimal digits that stand for every bit of a network's state."""
    digest = blake2b(digest_size=8)
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _batches(train: NDArray[np.int64], batch: int, steps: int) -> Iterator[NDArray[np.int64]]:
    """Items of each step: one keyed permutation of the training items after another."""
    order = np.empty(0, np.int64)
    epoch = 0
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, train[permutation(len(train), "classifier", epoch)]])
            epoch += 1
        yield order[:batch]
        order = order[batch:]


@torch.inference_mode()
def _accuracy(network: nn.Sequential, pack: Pack, items: NDArray[np.int64], device: torch.device) -> float:
    """Share of items classified rightly; NaN of none."""
    network.eval()
    right = 0
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        logits = network(prepared(torch.from_numpy(pack.images[part]).permute(0, 3, 1, 2).to(device)))
        right += int((logits.argmax(1).cpu() == torch.from_numpy(pack.given["label"][part])).sum())
    return right / len(items) if len(items) else math.nan


def save(path: Path, network: nn.Module, accuracy: float) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, partial, {"accuracy": repr(accuracy)})
    move_into_place(partial, path)


def load(path: Path, network: nn.Module) -> float | None:
    """Copy the stored weights into the network. Returns their recorded accuracy, None if there are none."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no dict
            network.load_state_dict(state)
            return float(file.metadata()["accuracy"])
    except (OSError, safetensors.SafetensorError, KeyError, RuntimeError, TypeError):
        return None  # absent, cut off, or not ours: trained anew
