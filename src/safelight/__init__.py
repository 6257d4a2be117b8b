"""safelight: train image generators, and watch them develop.

    import safelight as sl

    run = sl.train("digits", steps=500)            # or sl.open_run("digits-1")
    run.sample(16, label=3).save("threes.png")
    run.metrics("loss")                            # arrays by name, one value a step

Every command of the command line is here, too. Functions take a run by name, folder or `Run`:

    train  resume  sweep  search_settings          train; open_run opens a run that exists
    check  plan                                    a recipe, before it is trained
    tune  fork  rollback  replay                   change the course of a run
    bisect                                         what made it what it is
    influence  originals                           images that made a sample; images that samples copy
    relocate                                       its data were moved
    runs  specimens  keep  kept  film  walk        look at runs, and at samples through training
    live                                           a run in a notebook, while it trains
    search  project                                latents that fit a text, a picture, an image
    compare  log                                   pages on several runs
    share  open_shared  replay_shared  keep_shared    runs as one file
    push  pull  cite                               runs on the Hugging Face Hub, and in papers

Methods of `Run`: sample, at, evaluate, traverse, live, export, report, metrics. A mistake in what is given
raises `UserError`: one line that says what is wrong and how to fix it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safelight import recipes
    from safelight.api.causes import influence, originals
    from safelight.api.pages import compare, log, runs
    from safelight.api.prepare import check, plan
    from safelight.api.samples import film, keep, kept, live, open_run, project, search, specimens, walk
    from safelight.api.share import cite, keep_shared, open_shared, pull, push, replay_shared, share
    from safelight.api.steer import bisect, fork, relocate, replay, resume, rollback, sweep, train, tune
    from safelight.config import UserError
    from safelight.run import Run

__all__ = [
    "Run",
    "UserError",
    "bisect",
    "check",
    "cite",
    "compare",
    "film",
    "fork",
    "influence",
    "keep",
    "keep_shared",
    "kept",
    "live",
    "log",
    "open_run",
    "open_shared",
    "originals",
    "plan",
    "project",
    "pull",
    "push",
    "recipes",
    "relocate",
    "replay",
    "replay_shared",
    "resume",
    "rollback",
    "runs",
    "search",
    "search_settings",
    "share",
    "specimens",
    "sweep",
    "train",
    "tune",
    "walk",
]
MODULES = {  # the others are in api.samples
    "Run": "run",
    "UserError": "config",
    **dict.fromkeys(("influence", "originals"), "api.causes"),
    **dict.fromkeys(("compare", "log", "runs"), "api.pages"),
    **dict.fromkeys(("check", "plan"), "api.prepare"),
    "search_settings": "api.settings",
    **dict.fromkeys(
        ("cite", "keep_shared", "open_shared", "pull", "push", "replay_shared", "share"), "api.share"
    ),
    **dict.fromkeys(
        ("bisect", "fork", "relocate", "replay", "resume", "rollback", "sweep", "train", "tune"), "api.steer"
    ),
}
__version__ = "1.0.0rc1"
SPINS = 1_000  # turns that a waiting thread of libgomp spins before it sleeps, 300,000 by default

# Threads that spin for each other take the cores that other programs need, and wait for those themselves
# (benchmarks/busy.py). torch's libgomp reads this when torch is imported; child processes inherit it.
if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: `import safelight` stays instant."""
    if name == "recipes":
        return import_module("safelight.recipes")
    if name not in __all__:
        raise AttributeError(f"module 'safelight' has no attribute {name!r}")
    return getattr(import_module(f"safelight.{MODULES.get(name, 'api.samples')}"), name)
