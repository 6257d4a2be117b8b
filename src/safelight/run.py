"""A run as an object: its weights at a checkpoint, samples from them, its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from safelight.config import UserError
from safelight.data.space import Space
from safelight.engine import precision
from safelight.engine.plan import Plan
from safelight.engine.state import State
from safelight.generate import conditions, generate
from safelight.recipes.recipe import Recipe
from safelight.session.prepare import open_device
from safelight.session.recorded import recipe_of, spec_of
from safelight.session.samples import Samples
from safelight.session.watch import evaluated
from safelight.store import checkpoint, keep, metrics
from safelight.store.run import RunDirectory, find


class Run:
    """A run opened for reading, at one of its checkpoints. Nothing here changes the run."""

    def __init__(self, directory: RunDirectory, step: int | None = None) -> None:
        """step: of a checkpoint; the newest good one by default. Raises UserError where there is none."""
        self.directory = directory
        self.name = directory.name
        self.recipe: Recipe = recipe_of(directory)
        self.spec = spec_of(directory)
        self.step = self._step(step)
        info = directory.info()
        self.device = open_device(self.recipe.train.device)
        self.autocast = precision.autocast(self.device, str(info.facts.execution["precision"]))
        self.method = self.recipe.method()
        plan: Plan = self.recipe.plan(int(info.facts.data["train"]))
        self.state = State(
            self.method, self.spec, plan, self.device, str(info.facts.execution["memory_format"])
        )
        self.state.load(checkpoint.load(keep.directory(directory.path, self.step)), self.step)
        self.nets = evaluated(self.method, self.state)

    @classmethod
    def open(cls, run: str | Path, runs: Path, step: int | None = None) -> Run:
        """The run of a name or path. Raises UserError with the nearest name if there is none."""
        return cls(find(run, runs), step)

    def sample(
        self, count: int, *, seed: int = 0, how: Mapping[str, Any] | None = None, **wanted: str | int
    ) -> Samples:
        """Samples from the averaged weights: `run.sample(16, label=3, how={"sample.guidance": 3})`.

        wanted: conditions by name; see `generate.conditions`. how: keys of [sample] to change.
        """
        changed = self.recipe.with_changes(how or {}).sample
        texts = {name: str(value) for name, value in wanted.items()}
        given, present = conditions(self.spec, texts, count, self.device)
        x = generate(self.method, self.nets, changed, given, present, seed, self.autocast)
        return Samples(
            Space().to_pixels(x),
            {name: _array(value) for name, value in given.items()},
            _array(present),
            self.spec,
            changed.model_dump(),
        )

    def metrics(self, *names: str) -> dict[str, NDArray[Any]]:
        """Recorded values by column, all of them by default; "loss" stands for the raw components."""
        columns = metrics.read(self.directory.path)
        if not names:
            return columns
        wanted = {name for name in columns if name in names or ("loss" in names and name.startswith("raw/"))}
        return {name: column for name, column in columns.items() if name in wanted or name == "step"}

    def _step(self, step: int | None) -> int:
        if step is None:
            saved = keep.newest_good(self.directory.path)
            if saved is None:
                raise UserError(f"{self.name}: has no checkpoint yet; train it further first")
            return saved.step
        steps = keep.list_steps(self.directory.path)
        if step not in steps:
            raise UserError(
                f"{self.name}: has no checkpoint of step {step} (kept: {', '.join(map(str, steps))})"
            )
        return step


def _array(values: Tensor) -> NDArray[Any]:
    return values.cpu().numpy()
