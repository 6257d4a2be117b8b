"""What a search looks for, in words: "text", "realism", "reference=IMAGE.png", "FILE.py:function".

Each gives images one number, the higher the better:

    text          cosine of an encoder's feature of the image with that of the prompt
    realism       the discriminator's logit; of runs without one, how near an encoder finds the real images
    reference     cosine of an encoder's features of the image and of a given one
    FILE.py:NAME  NAME(images, prompt=None) of the user: images (n, C, H, W) float32 in [0, 1] -> (n,)
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safelight.config import UserError, nearest
from safelight.evaluate.measure import reference_items
from safelight.explore.latent_model import LatentModel, Made
from safelight.explore.search.judges import ImageEncoder, open_eye

NAMES = ("text", "realism", "reference=IMAGE", "FILE.py:FUNCTION", "pick")


PICK = "pick"  # a person judges: see picking.py


REAL, NEAREST = 1000, 5  # real images whose nearest few realism is measured from


@dataclass(frozen=True, eq=False)
class Objective:
    """One number of an image."""

    name: str
    told: str  # in words, what it is and by whom
    digest: str  # of all it depends on
    score: Callable[[Made], Tensor]  # (n,)


def check(names: Sequence[str], prompt: str | None) -> None:
    """Whether the words are objectives. Raises UserError."""
    for name in names:
        kind, _, rest = name.partition("=")
        if kind == "reference" and rest:
            if not Path(rest).is_file():
                raise UserError(f"--objective {name}: there is no such file")
        elif ".py:" in name:
            path = name.rpartition(":")[0]
            if not Path(path).is_file():
                raise UserError(f"--objective {name}: there is no such file")
        elif name == PICK and len(names) > 1:
            raise UserError("--objective pick: a person judges alone; leave out the others")
        elif name not in ("text", "realism", PICK):
            raise UserError(f"--objective {name}: is not a valid choice{nearest(name, NAMES)}")
    if "text" in names and not prompt:
        raise UserError('--objective text: needs --prompt "WORDS"')
    if len(set(names)) < len(names):
        raise UserError("--objective: names an objective twice")


def objectives(
    names: Sequence[str], studio: LatentModel, prompt: str | None, encoder: str | None
) -> list[Objective]:
    """Those of some words, which `check` has passed. Raises UserError."""
    eyes: dict[bool, ImageEncoder] = {}

    def eye(texts: bool = False) -> ImageEncoder:
        """One for all of them, which reads texts where any of them has to."""
        texts = texts or "text" in names
        if texts not in eyes:
            eyes[texts] = open_eye(encoder, studio.sight, texts)
        return eyes[texts]

    found = []
    for name in names:
        kind, _, rest = name.partition("=")
        if kind == "text":
            found.append(_text(str(prompt), eye(True)))
        elif kind == "realism":
            found.append(_realism(studio, eye))
        elif kind == "reference":
            found.append(_reference(Path(rest), studio, eye()))
        else:
            found.append(_function(name, prompt))
    return found


def differentiable(own: Sequence[Objective], studio: LatentModel) -> bool:
    """Whether gradients of all of them reach the latents."""
    x = torch.zeros(1, studio.space.size, device=studio.model.device).add_(0.1).requires_grad_()
    with torch.enable_grad():
        made = studio.make(studio.space.latents(x))
        return all(one.score(made).requires_grad for one in own)


def _text(prompt: str, eye: ImageEncoder) -> Objective:
    if eye.read is None:
        raise UserError(f"--encoder {eye.name}: sees images only; name one that reads texts")
    feature = eye.read([prompt])[0]

    def score(made: Made) -> Tensor:
        return eye.see(made.images) @ feature

    return Objective("text", f"cosine with the prompt, by {eye.told}", eye.digest, score)


def _realism(studio: LatentModel, eye: Callable[[], ImageEncoder]) -> Objective:
    discriminator = studio.network("discriminator")
    if discriminator is not None:
        given, present = dict(studio.given), studio.present
        if "text" in given:
            given["text"] = torch.nn.functional.normalize(given["text"].float(), dim=1)

        def judged(made: Made) -> Tensor:
            rows = len(made.x)
            own = {name: value.expand(rows, *value.shape[1:]) for name, value in given.items()}
            logit: Tensor = discriminator(made.x, own, present.expand(rows)).float()
            return logit

        return Objective("realism", "logit of the run's discriminator", "discriminator", judged)
    sees, pack = eye(), studio.pack
    with torch.no_grad():
        real = torch.cat(
            [
                sees.see(
                    torch.from_numpy(np.asarray(pack.images[part]))
                    .permute(0, 3, 1, 2)
                    .to(studio.model.device)
                    / 255
                )
                for part in np.array_split(
                    reference_items(pack, REAL), max(1, min(REAL, len(pack.train)) // 100)
                )
            ]
        )

    def near(made: Made) -> Tensor:
        fits = sees.see(made.images) @ real.T
        return fits.topk(min(NEAREST, len(real)), dim=1).values.mean(1)

    told = f"mean cosine with the nearest {NEAREST} of {len(real)} real images, by {sees.told}"
    return Objective("realism", told, f"{sees.digest} {pack.fingerprint}", near)


def _reference(path: Path, studio: LatentModel, eye: ImageEncoder) -> Objective:
    pixels = studio.read_image(path)
    with torch.no_grad():
        feature = eye.see(pixels)[0]

    def score(made: Made) -> Tensor:
        return eye.see(made.images) @ feature

    told = f"cosine with {path.name}, by {eye.told}"
    return Objective("reference", told, f"{eye.digest} {sha256(path.read_bytes()).hexdigest()}", score)


def _function(name: str, prompt: str | None) -> Objective:
    path, _, wanted = name.rpartition(":")
    spec = importlib.util.spec_from_file_location(f"objective_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(
            f"--objective {name}: {path} cannot be run ({type(error).__name__}: {error})"
        ) from error
    function: Any = getattr(module, wanted, None)
    if not callable(function):
        known = [own for own in vars(module) if callable(getattr(module, own)) and not own.startswith("_")]
        raise UserError(f"--objective {name}: {path} has no function {wanted}{nearest(wanted, known)}")
    told = {"prompt": prompt} if "prompt" in inspect.signature(function).parameters else {}

    def score(made: Made) -> Tensor:
        try:
            scores = torch.as_tensor(function(made.images, **told))
        except Exception as error:
            raise UserError(f"--objective {name}: {type(error).__name__}: {error}") from error
        if scores.shape != (len(made.images),):
            raise UserError(
                f"--objective {name}: gave {tuple(scores.shape)} for {len(made.images)} images; "
                f"expected ({len(made.images)},)"
            )
        return scores.float().to(made.images.device)

    digest = sha256(Path(path).read_bytes()).hexdigest()
    return Objective(wanted, f"{wanted} of {path}", digest, score)
