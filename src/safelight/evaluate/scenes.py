"""Reading drawn scenes: which shape of which colour lies left of or above which.

A small network learns from scenes drawn anew, of all combinations; those of the data set are not among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.data.cache import cache_dir
from safelight.data.drawn.shapes import COLOURS, RELATIONS, SHAPES, Scene, draw, read, scene
from safelight.data.source import Progress, key
from safelight.draw import RowDraw
from safelight.evaluate.classifier import cosine, initialised, load, save, weights_hash
from safelight.evaluate.features import READER, Extractor
from safelight.evaluate.reader import Reader
from safelight.evaluate.scores import Score

VERSION = 1  # of the network and its training: another number trains anew
SIDE = 32  # pixels it looks at
STEPS, BATCH, LR = 700, 64, 4e-3
FIRST = 10_000_000  # of the scenes it learns from; those of the data set come long before
COLOUR, SHAPE = tuple(COLOURS), SHAPES
QUESTIONS = (len(RELATIONS), len(COLOUR), len(SHAPE), len(COLOUR), len(SHAPE))  # answers to each
FEATURES = 128


def open_scene_reader(
    device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> Reader:
    """The reader of scenes: the one in the cache, or trained now."""
    path = cache_dir("extractors") / f"scenes-{key('scenes', VERSION)[:16]}.safetensors"
    network = build()
    with FileLock(f"{path}.lock"):
        stored = load(path, network)
        if stored is None:
            tell(f"training a reader of scenes on {STEPS * BATCH:,} drawn ones, once")
            stored = learn(network, progress)
            save(path, network, stored)
    network.to(device).eval().requires_grad_(False)
    body, head = network[:-1], network[-1]

    def see(pixels: Tensor) -> tuple[Tensor, None]:
        return body(prepared(pixels)), None

    def scores(features: Tensor, texts: Sequence[str]) -> dict[str, Score]:
        answers = answered(head.cpu()(features.cpu()))
        return read_right(answers, [read(text) for text in texts])

    extractor = Extractor(READER, weights_hash(network), f"averaged to {SIDE} pixels", see, device, stored)
    told = "share of images whose relation, colours and shapes are all those of the text"
    return Reader(extractor, scores, told)


def build() -> nn.Sequential:
    """(b, 3, SIDE, SIDE) in [-1, 1] -> answers to all questions, side by side (b, 20)."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    return initialised(
        lambda: nn.Sequential(
            *block(3, 16),
            *block(16, 32),
            *block(32, 64),
            nn.Flatten(),
            nn.Linear(64 * (SIDE // 8) ** 2, FEATURES),
            nn.ReLU(),
            nn.Linear(FEATURES, sum(QUESTIONS)),
        )
    )


def prepared(pixels: Tensor) -> Tensor:
    """uint8 (b, 3, H, W) -> float32 in [-1, 1], SIDE pixels a side."""
    x = pixels.float() / 127.5 - 1
    return x if x.shape[-1] == SIDE else F.interpolate(x, (SIDE, SIDE), mode="area")


def learn(network: nn.Sequential, progress: Progress | None) -> float:
    """Train on scenes drawn anew, with a little noise; the share of further ones that it reads rightly."""
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.02, fused=True)
    network.train()
    for step in range(STEPS):
        pixels, truth = drawn(range(FIRST + step * BATCH, FIRST + (step + 1) * BATCH))
        noise = RowDraw(0, step, "scenes", range(BATCH)).normal("noise", *pixels.shape[1:])
        for group in optimiser.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / 50) * cosine(step / STEPS)
        optimiser.zero_grad()
        answers = network(prepared(pixels) + 0.1 * noise).split(QUESTIONS, dim=1)
        loss = torch.stack([F.cross_entropy(one, truth[:, i]) for i, one in enumerate(answers)]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if progress and (step % 10 == 0 or step == STEPS - 1):
            progress("training the reader", step + 1, STEPS)
    network.eval()
    pixels, truth = drawn(range(FIRST + STEPS * BATCH, FIRST + STEPS * BATCH + 500))
    with torch.inference_mode():
        return float((answered(network(prepared(pixels))) == truth).all(1).double().mean())


def drawn(indices: range) -> tuple[Tensor, Tensor]:
    """Scenes by number: pixels uint8 (b, 3, SIDE, SIDE), and their answers (b, 5)."""
    scenes = [scene(index) for index in indices]
    images = np.stack([draw(own, index, SIDE) for own, index in zip(scenes, indices, strict=True)])
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor([answers_of(own) for own in scenes])


def answers_of(own: Scene) -> tuple[int, int, int, int, int]:
    """The true answer to each question."""
    (colour, shape), (other_colour, other_shape) = own.first, own.second
    return (
        RELATIONS.index(own.relation),
        COLOUR.index(colour),
        SHAPE.index(shape),
        COLOUR.index(other_colour),
        SHAPE.index(other_shape),
    )


def answered(logits: Tensor) -> Tensor:
    """The answer to each question (b, 5)."""
    return torch.stack([one.argmax(1) for one in torch.split(logits, [*QUESTIONS], dim=1)], dim=1)


def read_right(answers: Tensor, scenes: Sequence[Scene | None]) -> dict[str, Score]:
    """Shares of images (n, 5) read as their scenes: wholly, their colours, their shapes, their relation.

    Images of no scene are left out; spreads are standard errors.
    """
    kept = [row for row, own in enumerate(scenes) if own is not None]
    if not kept:
        return {}
    right = answers[kept] == torch.tensor([answers_of(own) for own in scenes if own is not None])

    def share(*questions: int) -> Score:
        value = float(right[:, questions].all(1).double().mean())
        return Score(value, math.sqrt(value * (1 - value) / len(kept)))

    return {
        "alignment": share(0, 1, 2, 3, 4),
        "alignment of colours": share(1, 3),
        "alignment of shapes": share(2, 4),
        "alignment of places": share(0),
    }
