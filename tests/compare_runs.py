"""Made-up runs: directories as a training session leaves them, with chosen losses, and no training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from safelight.config import override
from safelight.evaluate.evaluation import Evaluation, Result
from safelight.render.sheet import sheet
from safelight.render.sheet_file import save_png
from safelight.report.facts import RunFacts, gather
from safelight.store import results as evaluations
from safelight.store.directory import RunDirectory, create
from safelight.store.info import Facts, Parent
from safelight.store.journal_writer import JournalWriter
from safelight.store.metrics import MetricsRow, MetricsWriter

# A resolved recipe, as far as comparing reads it.
TREE: dict[str, Any] = {
    "about": {"title": "made up"},
    "data": {"source": "digits", "flip": False, "held_out": 0.1},
    "network": {"name": "unet", "width": 8},
    "method": {"name": "diffusion", "prediction": "v"},
    "loss": {"weights": {"mse": 1.0}},
    "optim": {"kind": "adamw", "lr": 0.001},
    "train": {"steps": 100, "batch_size": 10, "seed": 0},
    "watch": {"every": 50, "seed": 0, "held_out": 16},
    "checkpoint": {"every": 50},
    "sample": {"sampler": "heun", "steps": 5},
}
DATA = {
    "name": "digits",
    "fingerprint": "d1",
    "train": 500,
    "held_out": 50,
    "shape": [1, 4, 4],
    "conditions": {"label": {"kind": "label", "size": 2, "names": ["left", "right"]}},
}
MACHINE = {"device": "cpu", "threads": 1, "torch": "2"}
BASIS = {"extractor": "classifier e1", "n": "500", "reference": "500 of 500", "sampling": "heun 5"}


def sheet_of(seed: int, count: int = 6) -> np.ndarray:
    """Images (count, 4, 4, 1) that tell their seed."""
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)


class Made:
    """Makes runs in a directory."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def __call__(
        self,
        name: str,
        changes: Mapping[str, Any] | None = None,
        *,
        done: int = 100,
        losses: Callable[[int], float] = lambda step: 1.0 / (step + 1),
        more: Callable[[int], Mapping[str, float]] = lambda step: {},
        extra: Callable[[int], Mapping[str, float]] = lambda step: {},
        seconds: Callable[[int], float] = lambda step: 0.5,
        sheets: Sequence[int] = (50, 100),
        drawn: int = 0,
        end: str | None = "finished",
        data: Mapping[str, Any] = DATA,
        machine: Mapping[str, Any] = MACHINE,
        edits: Sequence[tuple[int, Mapping[str, Any]]] = (),
        evaluated: Mapping[str, float] | None = None,
        basis: Mapping[str, str] = BASIS,
        parent: Parent | None = None,
        recipe: str = "made",
    ) -> RunDirectory:
        """A run of `done` steps. more: further components; seconds, losses: of a step, from 0."""
        tree = override(TREE, changes or {})
        start = parent.step if parent else 0
        weights = tree["loss"]["weights"]
        directory = create(
            self.runs,
            tomli_w.dumps(tree),
            recipe=recipe,
            steps=tree["train"]["steps"],
            facts=Facts(data, {"safelight": "1"}, machine, {"precision": "fp32"}),
            name=name,
            parent=parent,
        )
        with JournalWriter(directory.journal_path) as writer:
            steps = tree["train"]["steps"]
            writer.start_session(start, steps, {"pid": 1, "host": "here", "environment": dict(machine)})
            for number, (step, changed) in enumerate(edits):
                writer.intervene(f"edit-{number}", step, changed, "cli")
            with MetricsWriter(directory.path, 1, start) as writing:
                rows = []
                for step in range(start, done):
                    components = {"mse": losses(step), **more(step)}
                    total = sum(
                        weights.get(key, 1.0) * value
                        for key, value in components.items()
                        if isinstance(weights.get(key, 1.0), float)
                    )
                    images = (step + 1) * tree["train"]["batch_size"]
                    lr = {"denoiser": tree["optim"]["lr"]}
                    rows.append(
                        MetricsRow(step, components, total, lr, images, seconds(step), "0", dict(extra(step)))
                    )
                writing.append(rows)
            if end:
                writer.end(end, done, steps)  # type: ignore[arg-type]
        for step in sheets:
            if start < step <= done:
                save_png(sheet(sheet_of(drawn + step), 2), directory.sheets / f"{step:08d}.png")
        if evaluated is not None:
            results = {key: Result(value, floor=0.5) for key, value in evaluated.items()}
            evaluation = Evaluation(done, "w", "classifier", results, basis, "two halves")
            evaluations.store(directory.path, evaluation.name, evaluation.to_dict())
        return directory

    def read(self, name: str, changes: Mapping[str, Any] | None = None, **how: Any) -> RunFacts:
        """A made-up run as it is read back."""
        return gather(self(name, changes, **how))


def nan_after(step: int, value: float = 1.0) -> Callable[[int], float]:
    """Losses that stop being finite at a step."""
    return lambda at: value if at < step else math.nan
