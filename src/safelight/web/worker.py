"""The process with the model: a request a line on stdin, an answer a line on stdout.

Pictures are those that the commands make from the same words: `sample`, `specimens`, `traverse`, and the
sheet of a step as [watch] would have drawn it.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
from PIL import Image
from pydantic import BaseModel

from safelight import keys
from safelight.config import UserError
from safelight.explore.moved import Mover
from safelight.explore.projection import obstacle
from safelight.explore.specimens import Specimen, picture_of, start_of
from safelight.loading.model import Model
from safelight.loading.replay import Replay
from safelight.randomness import RowDraw
from safelight.recipe import load
from safelight.render.sheet import Images
from safelight.render.tiles import grid_of, tiled
from safelight.store.directory import RunDirectory, require_plain
from safelight.store.listing import owner_of
from safelight.training.watch import watched_conditions, watched_images

MOST = 400  # images of an answer
Request = Mapping[str, Any]


class Holder:
    """A run at whichever of its steps is asked for."""

    def __init__(self, run: Path) -> None:
        require_plain(run)
        self.run = RunDirectory(run)
        self._mover = Mover()

    @cached_property
    def replay(self) -> Replay:
        return Replay(self.run)

    def exact(self, step: int) -> Model:
        """As trained, with its verdict; a step before a fork's first is one of the run it came from."""
        owner = owner_of(self.run, step)
        return (self.replay if owner == self.run else Replay(owner)).exact(step)

    def describe(self, request: Request) -> dict[str, Any]:
        """What there is to move: conditions, sampling, latents."""
        model = self.exact(request["step"])
        model.require_images()
        latent = model.method.latent(RowDraw(0, 0, "shape", range(1), model.device))
        return {
            "conditions": model.conditions, "sample": model.how.model_dump(mode="json"),
            "fields": _fields(model.how), "vector": latent.ndim == 2, "shape": list(model.data.pixels.shape),
            "obstacle": obstacle(model), **_origin(model),
        }  # fmt: skip

    def watched(self, request: Request) -> dict[str, Any]:
        """The sheet of a step, as [watch] draws it."""
        model = self.exact(request["step"])
        model.require_images()
        conditions = watched_conditions(model.data.recipe, model.data.stream())
        return _shown(watched_images(model, conditions), request, model)

    def draw(self, request: Request) -> dict[str, Any]:
        """Samples, as `sample` draws them; latents moved along directions as `traverse` moves them."""
        model, seed = self.exact(request["step"]), int(request.get("seed", 0))
        model.require_images()
        model = model.changed({f"sample.{name}": value for name, value in (request.get("how") or {}).items()})
        with tempfile.TemporaryDirectory() as place:
            stated = {
                name: _stated(name, value, Path(place)) for name, value in request["conditions"].items()
            }
            moved = {name: float(by) for name, by in (request.get("directions") or {}).items()}
            images = self._mover.images(model, _count(request), seed, stated, moved)
        return _shown(images, request, model)

    def specimens(self, request: Request) -> dict[str, Any]:
        """Named samples of a step, as `specimens` draws them."""
        model = self.replay.rounded(request["step"])
        model.require_images()
        first, count = int(request.get("first", 0)), _count(request)
        named = [Specimen(model.step, first + number) for number in range(count)]
        images = np.stack([picture_of(start_of(each, model), model) for each in named])
        return {**_shown(images, request, model), "ids": [str(each) for each in named]}


def recipe(request: Request) -> dict[str, Any]:
    """A shipped recipe as TOML, every key with its meaning."""
    return {"text": keys.full(load(str(request["recipe"])))}


def _shown(images: Images, request: Request, model: Model) -> dict[str, Any]:
    columns = int(request.get("columns") or max(1, round(len(images) ** 0.5)))
    grid = grid_of(len(images), columns, *images.shape[1:3])
    picture = base64.b64encode(tiled(images, columns)).decode()
    return {"picture": picture, "grid": vars(grid), **_origin(model)}


def _origin(model: Model) -> dict[str, Any]:
    verdict = model.verdict
    return {"step": model.step, "source": model.source, "verdict": verdict.verdict, "why": verdict.why,
            "sure": verdict.sure, "checked": verdict.checked, "start": verdict.start}  # fmt: skip


def _count(request: Request) -> int:
    count = int(request.get("count", 16))
    if not 1 <= count <= MOST:
        raise UserError(f"count: 1 to {MOST} images at once")
    return count


def _stated(name: str, value: Any, place: Path) -> str:
    """A condition in words; of a picture that came with the request, its file."""
    text = str(value)
    if not text.startswith("data:image/"):
        if name == "mask" and text != "none":
            raise UserError("mask: expected a picture, or none")
        if text.endswith((".npy", ".npz")):
            raise UserError(f"{name}: files are for the command line")
        return text
    path = place / f"{name}.png"
    with Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2])), formats=["PNG"]) as picture:
        picture.convert("L").save(path)
    return str(path)


def _fields(how: BaseModel) -> dict[str, Any]:
    """The keys of [sample]: what they mean, and their choices."""
    words = keys.meanings(type(how))
    choices = {name: list(get_args(field.annotation)) for name, field in type(how).model_fields.items()
               if get_origin(field.annotation) is Literal}  # fmt: skip
    return {name: {"words": words.get(name, ""), "choices": choices.get(name, [])}
            for name in type(how).model_fields}  # fmt: skip


def main() -> None:
    """Answer requests until stdin ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints does not get between answers
    holder: Holder | None = None
    for line in sys.stdin:
        try:
            with redirect_stdout(sys.stderr):
                answer, holder = _answer(json.loads(line), holder)
        except UserError as error:
            answer = {"mistake": str(error)}
        except Exception as error:  # the page shows it, and the process goes on
            answer, holder = {"mistake": f"{type(error).__name__}: {error}"}, None
        out.write(json.dumps(answer) + "\n")
        out.flush()


def _answer(request: Request, holder: Holder | None) -> tuple[dict[str, Any], Holder | None]:
    if request["op"] == "recipe":
        return recipe(request), holder
    run = Path(request["path"])
    if holder is None or holder.run.path != run or request["op"] == "describe":
        holder = Holder(run)  # what the run recorded meanwhile is read again
    operations: Mapping[str, Callable[[Request], dict[str, Any]]] = {
        "describe": holder.describe, "watched": holder.watched, "draw": holder.draw,
        "specimens": holder.specimens,
    }  # fmt: skip
    return operations[request["op"]](request), holder


if __name__ == "__main__":
    main()
