"""safelight: train image generators, and watch them develop.

import safelight as sl
run = sl.train("digits", steps=500)
run.sample(16, label=3).save("threes.png")
run.metrics("loss")
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safelight import recipes
    from safelight.run import Run

__all__ = ["Run", "open_run", "recipes", "resume", "train"]
__version__ = "0.1.0"


def train(
    recipe: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    runs: str | Path | None = None,
    **train_keys: Any,
) -> Run:
    """Train a recipe, shipped or a file, and open the run.

    changes: dotted keys, {"optim.lr": 1e-4}. train_keys: keys of [train], such as steps=500 or seed=1.
    runs: where runs live; $SAFELIGHT_RUNS or ./runs by default. Ctrl-C stops in good order. A script that
    torchrun starts in several processes trains one run together.
    Raises safelight.config.UserError: one line that says what to mend.
    """
    from safelight.cli.progress import TrainingProgress
    from safelight.engine.distributed import together
    from safelight.recipe import load
    from safelight.run import Run
    from safelight.store.directory import runs_directory
    from safelight.training.start import train_stages

    keys = {f"train.{key}": value for key, value in train_keys.items()}
    folder = runs_directory(Path(runs) if runs else None)
    with together() as world:
        resolved = load(recipe, {**(changes or {}), **keys})
        directory = train_stages(resolved, folder, name, world, lambda: TrainingProgress().show(world.first))
    return Run(directory)


def resume(run: str | Path, *, runs: str | Path | None = None) -> Run:
    """Go on with a run from its newest good checkpoint, and open it."""
    from safelight.cli.progress import TrainingProgress
    from safelight.engine.distributed import together
    from safelight.run import Run
    from safelight.store.directory import find, runs_directory
    from safelight.training.start import resume as go_on

    with together() as world:
        directory = find(run, runs_directory(Path(runs) if runs else None))
        go_on(directory, world, TrainingProgress().show(world.first))
    return Run(directory)


def open_run(run: str | Path, *, step: int | None = None, runs: str | Path | None = None) -> Run:
    """A run that is there, at one of its checkpoints; the newest by default."""
    from safelight.run import Run
    from safelight.store.directory import runs_directory

    return Run.open(run, runs_directory(Path(runs) if runs else None), step)


def __getattr__(name: str) -> Any:
    """`safelight.Run` and `safelight.recipes`, imported when they are asked for: --help stays instant."""
    from importlib import import_module

    if name == "Run":
        return import_module("safelight.run").Run
    if name == "recipes":
        return import_module("safelight.recipes")
    raise AttributeError(f"module 'safelight' has no attribute {name!r}")
