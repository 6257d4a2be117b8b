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
    def told(self) -> str:
        """In words, which it is."""
        did = "trained" if self.trained_it else "did not train"
        return f"{self.name} {self.digest[:8]}, which {did} the generator"


@dataclass(frozen=True)
class Sight:
    """What an eye is opened with."""

    directory: RunDirectory
    pixels: DataSpec
    pack: Callable[[], Pack]
    device: torch.device
    tell: Tell
    progress: Progress | None = None


def open_eye(which: str | None, sight: Sight, texts: bool) -> ImageEncoder:
    """ "training", the run's; "reader"; the name of an extractor; run:NAME; a Hub id or a path.

    None: of texts, or of data that have captions, the reader of those; else the run's own; else the
    classifier of data that have classes, efficientnet of others, random where that is missing. Raises
    UserError, also where texts are to be read and it cannot.
    """
    products = products_of(sight.directory)
    own = products.get(KEY)
    captioned = "text" in sight.pixels.conditions
    if which is None and captioned and any(sight.pack().texts):
        which = READER
    elif which is None:
        blind = own is None and not texts and sight.pixels.classes < 2
        extractor = of_images_alone(sight.tell) if blind else "classifier"
        which = TRAINING if own else "" if texts else extractor
    match which:
        case "":
            raise UserError(
                f"--encoder: {sight.directory.name} has no captions to read a text by, and no encoder of its "
                "own; name one, such as run:NAME, a CLIP's path or its Hub id"
            )
        case "training" | "own":
            if own is None:
                raise UserError(f"--encoder {which}: {sight.directory.name} was trained without an encoder")
            return _joint(own, sight, True)
        case "reader":
            return _reader(sight)
        case "classifier" | "efficientnet" | "segmenter" | "random":
            if texts:
                raise UserError(f"--encoder {which}: sees images only; name one that reads texts")
            return _extractor(which, sight)
    return _named(which, sight, own)


def _named(which: str, sight: Sight, own: Product | None) -> ImageEncoder:
    kind, _, name = which.partition(":")
    if kind == "run":
        product = of_run(which, name, sight.directory.path.parent)
    else:
        product = pretrained("--encoder", str(Path(which).absolute()) if Path(which).exists() else which)
    return _joint(product, sight, own is not None and own.digest == product.digest)


def _joint(product: Product, sight: Sight, trained_it: bool) -> ImageEncoder:
    """A joint encoder of a run, or a CLIP."""
    path = folder(product)
    network = JointEncoderConfig(path=Reference(path)).build(sight.pixels)
    network.to(sight.device).eval().requires_grad_(False)

    def see(images: Tensor) -> Tensor:
        features: Tensor = network(2 * images - 1)
        return features

    def read(texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(open_encoder(path).encode(texts)).to(sight.device)

    return ImageEncoder(product.run or Path(product.reference).name, product.digest, see, read, trained_it)


def _reader(sight: Sight) -> ImageEncoder:
    towers = open_towers(sight.pack(), sight.device, sight.tell, sight.progress)
    image, text = towers[0], towers[1]

    def see(images: Tensor) -> Tensor:
        return F.normalize(image(prepared(255 * images)), dim=1)

    def read(texts: Sequence[str]) -> Tensor:
        features = text_features(text, texts).to(sight.device)
        if bool((features.abs().sum(1) == 0).any()):
            raise UserError("--prompt: holds no word that the reader knows")
        return features

    return ImageEncoder(READER, weights_hash(towers), see, read)


def _extractor(which: str, sight: Sight) -> ImageEncoder:
    extractor = open_extractor(which, sight.pack(), sight.device, sight.tell, sight.progress)

    def see(images: Tensor) -> Tensor:
        return F.normalize(extractor.network(255 * images)[0].float(), dim=1)

    return ImageEncoder(which, extractor.hash, see)
