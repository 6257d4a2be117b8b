"""Reading drawn scenes: which shape of which colour lies left of or above which.

A small network learns from scenes drawn anew, of all combinations; those of the data set are not among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.data.source import Progress
from safelight.data.synthetic.shapes import COLOURS, RELATIONS, SHAPES, Scene, draw, read, scene
from safelight.evaluate.features import READER, Extractor, pixels_of
from safelight.evaluate.reader import ConditionReader
from safelight.evaluate.scores import Score
from safelight.evaluate.training import TrainingLength, fit, initialised, trained_once, weights_hash
from safelight.randomness import RowDraw

VERSION = 2  # of the network and its training: another number trains anew
SIDE = 32  # pixels it looks at
STEPS, SIZE, LR, WEIGHT_DECAY, WARM_UP = 700, 64, 4e-3, 0.02, 50  # SIZE of a batch
FIRST = 10_000_000  # of the scenes it learns from; those of the data set come long before
COLOUR, SHAPE = tuple(COLOURS), SHAPES
QUESTIONS = (len(RELATIONS), len(COLOUR), len(SHAPE), len(COLOUR), len(SHAPE))  # answers to each
FEATURES = 128


def open_scene_reader(
    device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> ConditionReader:
    """The reader of scenes: the one in the cache, or trained now."""
    network = build()

    def train() -> float:
        tell(f"training a reader of scenes on {STEPS * SIZE:,} drawn ones, once")
        return learn(network, progress)

    accuracy = trained_once("scenes", (VERSION,), network, device, train)
    body, head = network[:-1], network[-1]

    def see(pixels: Tensor) -> tuple[Tensor, None]:
        return body(prepared(pixels)), None

    def scores(features: Tensor, texts: Sequence[str]) -> dict[str, Score]:
        answers = answered(head.cpu()(features.cpu()))
        return read_right(answers, [read(text) for text in texts])

    extractor = Extractor(READER, weights_hash(network), f"averaged to {SIDE} pixels", see, device, accuracy)
    told = "share of images whose relation, colours and shapes are all those of the text"
    return ConditionReader(extractor, scores, told)


def build() -> nn.Sequential:
    """(b, 3, SIDE, SIDE) in [-1, 1] -> answers to all questions, side by side (b, 20)."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    network = initialised(
        "classifier",
        lambda: nn.Sequential(
            *block(3, 16),
            *block(16, 32),
            *block(32, 64),
            nn.Flatten(),
            nn.Linear(64 * (SIDE // 8) ** 2, FEATURES),
            nn.ReLU(),
            nn.Linear(FEATURES, sum(QUESTIONS)),
        ),
    )
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def prepared(pixels: Tensor) -> Tensor:
    """uint8 (b, 3, H, W) -> float32 in [-1, 1], SIDE pixels a side."""
    x = pixels.float() / 127.5 - 1
    return x if x.shape[-1] == SIDE else F.interpolate(x, (SIDE, SIDE), mode="area")


def learn(network: nn.Sequential, progress: Progress | None) -> float:
    """Train on scenes drawn anew, with a little noise; the share of further ones that it reads rightly."""
    device = next(network.parameters()).device

    def loss(step: int) -> Tensor:
        pixels, truth = drawn(range(FIRST + step * SIZE, FIRST + (step + 1) * SIZE))
        noise = RowDraw(0, step, "scenes", range(SIZE)).normal("noise", *pixels.shape[1:])
        answers = network((prepared(pixels) + 0.1 * noise).to(device)).split(QUESTIONS, dim=1)
        own = truth.to(device)
        return torch.stack([F.cross_entropy(one, own[:, i]) for i, one in enumerate(answers)]).sum()

    fit(network, TrainingLength(STEPS, SIZE, LR, WEIGHT_DECAY, WARM_UP), loss, "reader", progress)
    pixels, truth = drawn(range(FIRST + STEPS * SIZE, FIRST + STEPS * SIZE + 500))
    with torch.inference_mode():
        answers = answered(network(prepared(pixels).to(device)).cpu())
    return float((answers == truth).all(1).double().mean())


def drawn(indices: range) -> tuple[Tensor, Tensor]:
    """Scenes by number: pixels uint8 (b, 3, SIDE, SIDE), and their answers (b, 5)."""
    scenes = [scene(index) for index in indices]
    images = np.stack([draw(own, index, SIDE) for own, index in zip(scenes, indices, strict=True)])
    return pixels_of(images), torch.tensor([answers_of(own) for own in scenes])


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
