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
from safelight.explore.latent_model import Generated, LatentModel
from safelight.explore.search.judges import ImageEncoder, open_judge

NAMES = ("text", "realism", "reference=IMAGE", "FILE.py:FUNCTION", "pick")
PICK = "pick"  # a person judges: see picking.py
REAL, NEAREST = 1000, 5  # real images whose nearest few realism is measured from


@dataclass(frozen=True, eq=False)
class Objective:
    """One number of an image."""

    name: str
    description: str  # in words, what it is and by whom
    digest: str  # of all it depends on
    score: Callable[[Generated], Tensor]  # (n,)


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
            raise UserError("--objective pick: cannot be combined with other objectives")
        elif name not in ("text", "realism", PICK):
            raise UserError(f"--objective {name}: is not a valid choice{nearest(name, NAMES)}")
    if "text" in names and not prompt:
        raise UserError('--objective text: needs --prompt "WORDS"')
    if len(set(names)) < len(names):
        raise UserError("--objective: names an objective twice")


def open_objectives(
    names: Sequence[str], generator: LatentModel, prompt: str | None, encoder: str | None
) -> list[Objective]:
    """Those of some words, which `check` has passed. Raises UserError."""
    judges: dict[bool, ImageEncoder] = {}

    def judge(texts: bool = False) -> ImageEncoder:
        """One for all of them, which reads texts where any of them has to."""
        texts = texts or "text" in names
        if texts not in judges:
            judges[texts] = open_judge(encoder, generator.judge_inputs, texts)
        return judges[texts]

    results = []
    for name in names:
        kind, _, rest = name.partition("=")
        if kind == "text":
            results.append(_text(str(prompt), judge(True)))
        elif kind == "realism":
            results.append(_realism(generator, judge))
        elif kind == "reference":
            results.append(_reference(Path(rest), generator, judge()))
        else:
            results.append(_function(name, prompt))
    return results


def differentiable(objectives: Sequence[Objective], generator: LatentModel) -> bool:
    """Whether gradients of all of them reach the latents."""
    x = torch.zeros(1, generator.space.size, device=generator.model.device).add_(0.1).requires_grad_()
    with torch.enable_grad():
        generated = generator.make(generator.space.latents(x))
        return all(objective.score(generated).requires_grad for objective in objectives)


def _cosine(judge: ImageEncoder, feature: Tensor) -> Callable[[Generated], Tensor]:
    return lambda generated: judge.see(generated.images) @ feature


def _text(prompt: str, judge: ImageEncoder) -> Objective:
    if judge.read is None:
        raise UserError(f"--encoder {judge.name}: sees images only; name one that reads texts")
    feature = judge.read([prompt])[0]
    return Objective(
        "text", f"cosine with the prompt, by {judge.description}", judge.digest, _cosine(judge, feature)
    )


def _realism(generator: LatentModel, judge: Callable[[], ImageEncoder]) -> Objective:
    discriminator = generator.network("discriminator")
    if discriminator is not None:
        given, present = dict(generator.given), generator.present
        if "text" in given:
            given["text"] = torch.nn.functional.normalize(given["text"].float(), dim=1)

        def judged(generated: Generated) -> Tensor:
            rows = len(generated.x)
            repeated = {name: value.expand(rows, *value.shape[1:]) for name, value in given.items()}
            logit: Tensor = discriminator(generated.x, repeated, present.expand(rows)).float()
            return logit

        return Objective("realism", "logit of the run's discriminator", "discriminator", judged)
    encoder, pack = judge(), generator.pack
    with torch.no_grad():
        real = torch.cat(
            [
                encoder.see(
                    torch.from_numpy(np.asarray(pack.images[part]))
                    .permute(0, 3, 1, 2)
                    .to(generator.model.device)
                    / 255
                )
                for part in np.array_split(
                    reference_items(pack, REAL), max(1, min(REAL, len(pack.train)) // 100)
                )
            ]
        )

    def near(generated: Generated) -> Tensor:
        fits = encoder.see(generated.images) @ real.T
        return fits.topk(min(NEAREST, len(real)), dim=1).values.mean(1)

    description = (
        f"mean cosine with the nearest {NEAREST} of {len(real)} real images, by {encoder.description}"
    )
    return Objective("realism", description, f"{encoder.digest} {pack.fingerprint}", near)


def _reference(path: Path, generator: LatentModel, judge: ImageEncoder) -> Objective:
    pixels = generator.read_image(path)
    with torch.no_grad():
        feature = judge.see(pixels)[0]
    digest = f"{judge.digest} {sha256(path.read_bytes()).hexdigest()}"
    description = f"cosine with {path.name}, by {judge.description}"
    return Objective("reference", description, digest, _cosine(judge, feature))


def _function(name: str, prompt: str | None) -> Objective:
    path, _, attribute = name.rpartition(":")
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
    function: Any = getattr(module, attribute, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"--objective {name}: {path} has no function {attribute}{nearest(attribute, known)}")
    options = {"prompt": prompt} if "prompt" in inspect.signature(function).parameters else {}

    def score(generated: Generated) -> Tensor:
        try:
            scores = torch.as_tensor(function(generated.images, **options))
        except Exception as error:
            raise UserError(f"--objective {name}: {type(error).__name__}: {error}") from error
        if scores.shape != (len(generated.images),):
            raise UserError(
                f"--objective {name}: gave {tuple(scores.shape)} for {len(generated.images)} images; "
                f"expected ({len(generated.images)},)"
            )
        return scores.float().to(generated.images.device)

    digest = sha256(Path(path).read_bytes()).hexdigest()
    return Objective(attribute, f"{attribute} of {path}", digest, score)
