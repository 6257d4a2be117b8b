"""Reading drawn scenes: which shape of which colour lies left of or above which.

A small network learns from scenes drawn anew, of all combinations; those of the data set are not among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.data.source import Progress
from safelight.data.synthetic.shapes import COLOURS, RELATIONS, SHAPES, Scene, draw, read, scene
from safelight.evaluate.evaluation import Result
from safelight.evaluate.features import READER, Extractor, pixels_of
from safelight.evaluate.reader import ConditionReader
from safelight.evaluate.training import fit, initialised, trained_once, weights_hash
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

    def scores(features: Tensor, texts: Sequence[str]) -> dict[str, Result]:
        answers = answered(head.cpu()(features.cpu()))
        return read_right(answers, [read(text) for text in texts])

    extractor = Extractor(READER, weights_hash(network), f"averaged to {SIDE} pixels", see, device, accuracy)
    return ConditionReader(
        extractor, scores, "share of images whose relation, colours and shapes are all those of the text"
    )


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
        right = truth.to(device)
        return torch.stack([F.cross_entropy(part, right[:, i]) for i, part in enumerate(answers)]).sum()

    settings = {"lr": LR, "weight_decay": WEIGHT_DECAY, "warm_up": WARM_UP}
    fit(network, loss, "reader", progress, steps=STEPS, batch=SIZE, **settings)
    pixels, truth = drawn(range(FIRST + STEPS * SIZE, FIRST + STEPS * SIZE + 500))
    with torch.inference_mode():
        answers = answered(network(prepared(pixels).to(device)).cpu())
    return float((answers == truth).all(1).double().mean())


def drawn(indices: range) -> tuple[Tensor, Tensor]:
    """Scenes by number: pixels uint8 (b, 3, SIDE, SIDE), and their answers (b, 5)."""
    scenes = [scene(index) for index in indices]
    images = np.stack([draw(each, index, SIDE) for each, index in zip(scenes, indices, strict=True)])
    return pixels_of(images), torch.tensor([answers_of(each) for each in scenes])


def answers_of(scene: Scene) -> tuple[int, ...]:
    """The true answer to each question."""
    named = ((COLOUR.index(colour), SHAPE.index(shape)) for colour, shape in (scene.first, scene.second))
    return (RELATIONS.index(scene.relation), *chain(*named))


def answered(logits: Tensor) -> Tensor:
    """The answer to each question (b, 5)."""
    return torch.stack([part.argmax(1) for part in torch.split(logits, [*QUESTIONS], dim=1)], dim=1)


def read_right(answers: Tensor, scenes: Sequence[Scene | None]) -> dict[str, Result]:
    """Shares of images (n, 5) read as their scenes: wholly, their colours, their shapes, their relation.

    Images of no scene are left out; spreads are standard errors.
    """
    known = {row: answers_of(scene) for row, scene in enumerate(scenes) if scene is not None}
    if not known:
        return {}
    right = answers[[*known]] == torch.tensor([*known.values()])

    def share(*questions: int) -> Result:
        value = float(right[:, questions].all(1).double().mean())
        return Result(value, math.sqrt(value * (1 - value) / len(known)))

    return {
        "alignment": share(0, 1, 2, 3, 4),
        "alignment of colours": share(1, 3),
        "alignment of shapes": share(2, 4),
        "alignment of places": share(0),
    }
