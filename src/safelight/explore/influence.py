"""Which training images made a sample: their gradients traced through checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from safelight.config import UserError
from safelight.data.edits import Items
from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.engine.gradients import SampleGradients, traced, tracin, whitened
from safelight.engine.optim import rates
from safelight.explore.specimens import develop, parse_specimen, start_of
from safelight.loading.replay import Replay
from safelight.render.sheet import panel
from safelight.store import checkpoint_files
from safelight.store.directory import RunDirectory
from safelight.store.listing import owner_of
from safelight.types import Batch, Tell

By = Literal["whitened", "tracin"]
SIZE = 4096  # of a sketch
DAMPING = 0.1
BLOCK = 64  # images between two reports of progress
SHOWN = 10  # causes of a sheet


@dataclass(frozen=True, eq=False)
class Influence:
    """Training images by how far they lower the loss of a sample."""

    specimen: str
    by: By
    steps: tuple[int, ...]  # checkpoints
    draws: int
    image: NDArray[np.uint8]  # (H, W, C) the sample
    items: NDArray[np.int64]  # of the pack, the strongest cause first
    scores: NDArray[np.float32]  # in units of their standard deviation
    pack: Pack

    def to_dict(self, count: int) -> dict[str, Any]:
        """Plain values, of so many causes."""
        known, labels = Items(self.pack), self.pack.given.get("label")
        ranked = zip(self.items.tolist(), self.scores.tolist(), strict=True)
        causes = [
            {"rank": rank, "item": self.pack.names[item], "hash": known.hash_of(item), "score": score}
            | ({"label": int(labels[item])} if labels is not None else {})
            for rank, (item, score) in zip(range(1, count + 1), ranked, strict=False)
        ]
        shared = {
            "specimen": self.specimen,
            "by": self.by,
            "checkpoints": list(self.steps),
            "draws": self.draws,
        }
        return {**shared, "images": len(self.items), "causes": causes}

    def sheet(self) -> Image.Image:
        """The sample beside its nearest causes, and beside the images that pull the other way."""
        count = min(SHOWN, len(self.items))
        near, far = self.items[:count], self.items[::-1][:count]
        grid = np.stack([np.concatenate([self.image[None], self.pack.images[row]]) for row in (near, far)])
        labels = ("sample", *(f"{place + 1}" for place in range(count)))
        return panel(grid[..., :3], ("for it", "against it"), labels)


def influence(
    directory: RunDirectory, specimen: str, by: By = "whitened", checkpoints: int = 3, draws: int = 8,
    size: int = SIZE, progress: Progress | None = None, tell: Tell = lambda line: None,
) -> Influence:  # fmt: skip
    """Rank the training images of a run for one of its samples, named as STEP.DRAW.

    The gradients of all images are sketched once at every checkpoint, of the weights as trained. An image
    that counts less (data.weight) pulls as much less. draws: over which gradients are averaged. Raises
    UserError, also for a method whose loss is not one of images.
    """
    named = parse_specimen(specimen)
    directory = owner_of(directory, named.step)
    run = Replay(directory, tell)
    traced(run.method)
    model = run.rounded(named.step)
    model.require_images()
    start = start_of(named, model)
    x = develop(start, model)
    image = model.space.to_pixels(x)[0]
    sample = Batch(x, start.given, start.present, range(1), 1)
    stream = model.data.stream(progress)
    pack = stream.pack
    steps = _spread(checkpoint_files.list_steps(directory.path), named.step, checkpoints)
    total = torch.zeros(len(pack.train))
    for place, step in enumerate(steps):
        run.go_to(step)
        recipe, plan = run.in_force.recipe_at(step), run.in_force.plan_at(step)
        gradients = SampleGradients(run.method, run.state.nets, plan.weights_at(step), run.state.memory,
                                    recipe.train.seed, draws, size, step)  # fmt: skip
        rows = []
        for begin in range(0, len(pack.train), BLOCK):
            rows.append(gradients.of(stream.pick(pack.train[begin : begin + BLOCK])))
            if progress:
                done = place * len(pack.train) + begin + len(rows[-1])
                progress("gradients", done, len(steps) * len(pack.train))
        items, target = torch.cat(rows), gradients.of(sample)[0]
        lr = max(rate.lr for rate in rates(plan, run.method.phases, step).values())
        score = lr * tracin(target, items) if by == "tracin" else whitened(target, items, DAMPING)
        weights = Items(pack).weights(recipe.data)
        total += score if weights is None else score * torch.from_numpy(weights[0][pack.train])
    total = total / total.std()
    order = total.argsort(descending=True).numpy()
    return Influence(specimen, by, steps, draws, image, pack.train[order], total.numpy()[order], pack)


def _spread(kept: Sequence[int], last: int, count: int) -> tuple[int, ...]:
    """At most `count` checkpoints up to a step, evenly, the last of them included; never that of step 0."""
    usable = [step for step in kept if 0 < step <= last]
    if not usable:
        raise UserError(f"influence: no checkpoint is kept up to step {last}; name a sample of a later step")
    count = min(count, len(usable))
    return tuple(usable[-(-len(usable) * place // count) - 1] for place in range(1, count + 1))
