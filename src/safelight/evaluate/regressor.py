"""A small regressor of attributes, trained on the real images once for each data set: what samples obey.

Never the training signal of a generator. It is a pure function of the data (and of the machine's arithmetic),
as the classifier is: weights, order and shifts are drawn by name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.data.cache import cache_dir, move_into_place
from safelight.data.pack import Pack
from safelight.data.source import Progress, key
from safelight.draw import RowDraw, permutation
from safelight.evaluate.classifier import build, cosine, prepared, shifted, weights_hash
from safelight.evaluate.evaluation import Result
from safelight.evaluate.features import BATCH

VERSION = 1  # of the network and its training: another number trains anew
EPOCHS, FEWEST, MOST = 4, 16_000, 60_000  # images shown: so many epochs, between these
SIZE, LR, WEIGHT_DECAY, SHIFT = 64, 5e-3, 0.02, 2  # of a batch; AdamW's; pixels an image is moved by at most

Values = NDArray[np.float32]  # (n, A)


@dataclass(frozen=True, eq=False)
class Regressor:
    """A network that reads attributes off images."""

    hash: str  # of its weights
    names: tuple[str, ...]
    known: tuple[float, ...]  # mean absolute error by attribute, on held-out real images
    guess: tuple[float, ...]  # of one who says the mean of the data every time
    predict: Callable[[NDArray[np.uint8]], Values]  # (b, H, W, C) -> (b, A)

    def judge(self, images: NDArray[np.uint8], wanted: Values) -> Values:
        """Absolute errors (b, A) of images against the attributes they were asked for."""
        errors: Values = np.abs(self.predict(images) - wanted)
        return errors

    def results(self, errors: Sequence[Values]) -> dict[str, Result]:
        """The mean error of samples by attribute, beside that of real images."""
        means = np.concatenate(errors).mean(0).tolist()
        return {
            f"error of {name}": Result(own, None, real)
            for name, own, real in zip(self.names, means, self.known, strict=True)
        }

    @property
    def told(self) -> str:
        """What the errors rest on, and what a guess would make of them."""
        guesses = ", ".join(f"{name} {own:.3f}" for name, own in zip(self.names, self.guess, strict=True))
        return f"regressor {self.hash}, mean absolute errors; saying the mean every time makes {guesses}"


def open_regressor(
    pack: Pack, device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> Regressor | None:
    """The regressor of a pack: the one in the cache, or trained now; None where too few have attributes."""
    condition = pack.conditions.get("attributes")
    if condition is None:
        return None
    train, held_out = (items[pack.covered["attributes"][items]] for items in (pack.train, pack.held_out))
    if not (len(train) and len(held_out)):
        return None
    name = key("regressor", VERSION, pack.fingerprint, train.tobytes(), held_out.tobytes())
    path = cache_dir("extractors") / f"regressor-{name[:16]}.safetensors"
    values = np.asarray(pack.given["attributes"], np.float32)
    mean, deviation = values[train].mean(0), values[train].std(0).clip(1e-6)
    network = build(pack.images.shape[3], condition.size)

    def predict(images: NDArray[np.uint8]) -> Values:
        read: Values = _read(network, images, device) * deviation + mean
        return read

    with FileLock(f"{path}.lock"):
        known = _load(path, network)
        if known is None:
            tell(f"training a regressor of attributes on {len(train):,} images of {pack.name}, once")
            learn(network.to(device), pack, train, (values - mean) / deviation, progress)
            network.eval()
            errors = np.abs(predict(np.asarray(pack.images[held_out])) - values[held_out])
            known = tuple(errors.mean(0).tolist())
            _save(path, network, known)
    network.to(device).eval().requires_grad_(False)
    names = condition.names or tuple(map(str, range(condition.size)))
    guess = tuple(np.abs(values[held_out] - mean).mean(0).tolist())
    return Regressor(weights_hash(network), names, known, guess, predict)


def learn(
    network: nn.Sequential, pack: Pack, train: NDArray[np.int64], targets: Values, progress: Progress | None
) -> None:
    """Train on items with attributes: AdamW, warm-up and cosine, squared error of targets (N, A)."""
    device = next(network.parameters()).device
    steps = min(MOST, max(FEWEST, EPOCHS * len(train))) // SIZE
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    network.train()
    for step in range(steps):
        begin = step * SIZE
        order = permutation(len(train), "regressor", begin // len(train))
        items = train[order[(begin + np.arange(SIZE)) % len(train)]]
        pixels = torch.from_numpy(np.asarray(pack.images[items])).permute(0, 3, 1, 2)
        pixels = shifted(pixels, RowDraw(0, step, "regressor", range(SIZE)), SHIFT)
        for group in optimiser.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / (0.1 * steps)) * cosine(step / steps)
        optimiser.zero_grad()
        wanted = torch.from_numpy(targets[items]).to(device)
        F.mse_loss(network(prepared(pixels.to(device))), wanted).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if progress and (step % 10 == 0 or step == steps - 1):
            progress("training the regressor", (step + 1) * SIZE, steps * SIZE)


@torch.inference_mode()
def _read(network: nn.Sequential, images: NDArray[np.uint8], device: torch.device) -> Values:
    parts: list[Tensor] = []
    for start in range(0, len(images), BATCH):
        pixels = torch.from_numpy(np.array(images[start : start + BATCH])).permute(0, 3, 1, 2).to(device)
        parts.append(network(prepared(pixels)).float().cpu())
    found: Values = torch.cat(parts).numpy()
    return found


def _save(path: Path, network: nn.Module, known: tuple[float, ...]) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, partial, {"known": json.dumps(known)})
    move_into_place(partial, path)


def _load(path: Path, network: nn.Module) -> tuple[float, ...] | None:
    """Copy the stored weights into the network. Returns its known errors, None if there are none."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return tuple(map(float, json.loads(file.metadata()["known"])))
    except (OSError, safetensors.SafetensorError, KeyError, RuntimeError, TypeError, ValueError):
        return None  # absent, cut off, or not ours: trained anew
