"""Encoders that judge what a search finds: images as features of unit length, beside those of texts.

One that did not train the generator is preferred: what has been trained by it, games it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.config import Reference, UserError
from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.evaluate.classifier import prepared
from safelight.evaluate.extractors import of_images_alone, open_extractor
from safelight.evaluate.features import READER
from safelight.evaluate.retrieval import open_towers, text_features
from safelight.evaluate.training import weights_hash
from safelight.language import open_encoder
from safelight.loading.dependencies import Product, folder, of_run, pretrained, products_of
from safelight.networks.towers import JointEncoderConfig
from safelight.store.directory import RunDirectory
from safelight.types import DataSpec, Tell

KEY = "network.encoder.path"  # where a recipe names the encoder that trains it
TRAINING = "training"


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """What sees images, and reads texts where it can."""

    name: str
    digest: str  # of its weights
    see: Callable[[Tensor], Tensor]  # images (n, C, H, W) in [0, 1] -> (n, d), of unit length, differentiable
    read: Callable[[Sequence[str]], Tensor] | None = None  # n texts -> (n, d), of unit length
    trained_it: bool = False  # the generator was trained by it

    @property
    def description(self) -> str:
        """In words, which it is."""
        did = "trained" if self.trained_it else "did not train"
        return f"{self.name} {self.digest[:8]}, which {did} the generator"


@dataclass(frozen=True)
class JudgeInputs:
    """What an eye is opened with."""

    directory: RunDirectory
    pixels: DataSpec
    pack: Callable[[], Pack]
    device: torch.device
    tell: Tell
    progress: Progress | None = None


def open_judge(encoder: str | None, inputs: JudgeInputs, texts: bool) -> ImageEncoder:
    """ "training", the run's; "reader"; the name of an extractor; run:NAME; a Hub id or a path.

    None: of texts, or of data that have captions, the reader of those; else the run's own; else the
    classifier of data that have classes, efficientnet of others, random where that is missing. Raises
    UserError, also where texts are to be read and it cannot.
    """
    products = products_of(inputs.directory)
    trainer = products.get(KEY)
    captioned = "text" in inputs.pixels.conditions
    if encoder is None and captioned and any(inputs.pack().texts):
        encoder = READER
    elif encoder is None:
        blind = trainer is None and not texts and inputs.pixels.classes < 2
        extractor = of_images_alone(inputs.tell) if blind else "classifier"
        encoder = TRAINING if trainer else "" if texts else extractor
    match encoder:
        case "":
            raise UserError(
                f"--encoder: {inputs.directory.name} has no captions and was trained without an encoder; "
                "name an encoder that reads texts: run:NAME, the path of a CLIP or its Hub id"
            )
        case "training" | "own":
            if trainer is None:
                raise UserError(
                    f"--encoder {encoder}: {inputs.directory.name} was trained without an encoder"
                )
            return _joint(trainer, inputs, True)
        case "reader":
            return _reader(inputs)
        case "classifier" | "efficientnet" | "segmenter" | "random":
            if texts:
                raise UserError(f"--encoder {encoder}: sees images only; name one that reads texts")
            return _extractor(encoder, inputs)
    return _named(encoder, inputs, trainer)


def _named(encoder: str, inputs: JudgeInputs, trainer: Product | None) -> ImageEncoder:
    kind, _, name = encoder.partition(":")
    if kind == "run":
        product = of_run(encoder, name, inputs.directory.path.parent)
    else:
        product = pretrained(
            "--encoder", str(Path(encoder).absolute()) if Path(encoder).exists() else encoder
        )
    return _joint(product, inputs, trainer is not None and trainer.digest == product.digest)


def _joint(product: Product, inputs: JudgeInputs, trained_it: bool) -> ImageEncoder:
    """A joint encoder of a run, or a CLIP."""
    path = folder(product)
    network = JointEncoderConfig(path=Reference(path)).build(inputs.pixels)
    network.to(inputs.device).eval().requires_grad_(False)

    def see(images: Tensor) -> Tensor:
        features: Tensor = network(2 * images - 1)
        return features

    def read(texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(open_encoder(path).encode(texts)).to(inputs.device)

    return ImageEncoder(product.run or Path(product.reference).name, product.digest, see, read, trained_it)


def _reader(inputs: JudgeInputs) -> ImageEncoder:
    towers = open_towers(inputs.pack(), inputs.device, inputs.tell, inputs.progress)
    image, text = towers[0], towers[1]

    def see(images: Tensor) -> Tensor:
        return F.normalize(image(prepared(255 * images)), dim=1)

    def read(texts: Sequence[str]) -> Tensor:
        features = text_features(text, texts).to(inputs.device)
        if bool((features.abs().sum(1) == 0).any()):
            raise UserError("--prompt: contains no word that the reader knows")
        return features

    return ImageEncoder(READER, weights_hash(towers), see, read)


def _extractor(encoder: str, inputs: JudgeInputs) -> ImageEncoder:
    extractor = open_extractor(encoder, inputs.pack(), inputs.device, inputs.tell, inputs.progress)

    def see(images: Tensor) -> Tensor:
        return F.normalize(extractor.network(255 * images)[0].float(), dim=1)

    return ImageEncoder(encoder, extractor.hash, see)
