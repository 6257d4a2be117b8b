"""safelight: train image generators, and watch them develop.

    import safelight as sl

    run = sl.train("digits", steps=500)            # or sl.open_run("digits-1")
    run.sample(16, label=3).save("threes.png")
    run.metrics("loss")                            # arrays by name, one value a step

Every command of the command line is here, too. Functions take a run by name, folder or `Run`:

    train  resume  sweep                           train; open_run opens a run that exists
    check  plan                                    a recipe, before it is trained
    tune  fork  rollback  replay                   change the course of a run
    runs  specimens  keep  kept  film  walk        look at runs, and at samples through training
    search  project                                latents that fit a text, a picture, an image
    compare  log                                   pages on several runs

Methods of `Run`: sample, at, evaluate, traverse, export, report, metrics. A mistake in what is given raises
`UserError`: one line that says what is wrong and how to fix it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safelight import api as api
    from safelight import recipes
    from safelight.api import (
        check,
        compare,
        film,
        fork,
        keep,
        kept,
        log,
        open_run,
        plan,
        project,
        replay,
        resume,
        rollback,
        runs,
        search,
        specimens,
        sweep,
        train,
        tune,
        walk,
    )
    from safelight.config import UserError
    from safelight.run import Run

__all__ = [
    "Run",
    "UserError",
    "check",
    "compare",
    "film",
    "fork",
    "keep",
    "kept",
    "log",
    "open_run",
    "plan",
    "project",
    "recipes",
    "replay",
    "resume",
    "rollback",
    "runs",
    "search",
    "specimens",
    "sweep",
    "train",
    "tune",
    "walk",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: `import safelight` stays instant."""
    if name in ("recipes", "api"):
        return import_module(f"safelight.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'safelight' has no attribute {name!r}")
    module = {"Run": "safelight.run", "UserError": "safelight.config"}.get(name, "safelight.api")
    return getattr(import_module(module), name)
