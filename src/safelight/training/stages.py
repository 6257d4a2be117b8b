"""What a run needs of other trainings, trained first.

A value "recipe:NAME" of a recipe is another training, done first, into the same runs directory, under a name
that is a function of its settings: what is finished is used as it is, what was begun is resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from safelight.config import Reference, UserError
from safelight.data import check_named
from safelight.engine.distributed import World
from safelight.loading.dependencies import Product, of_run, pretrained, references
from safelight.loading.init_source import INIT, init_product
from safelight.recipe import Recipe, load
from safelight.store import checkpoint_files, renaming
from safelight.store.directory import RUN, RunDirectory, require_free
from safelight.store.listing import Status, summary
from safelight.training.grid import digest, without_about
from safelight.training.progress import Show
from safelight.training.remedies import untreated
from safelight.training.start import begin, resume

Ended = Literal["trained", "resumed", "done before", "stopped"]
IMAGES = ("source", "path", "layout", "subset", "revision", "size", "channels", "held_out", "group",
          "skip_bad", "follow_links")  # fmt: skip
SHOWN = ("latents", "balance", "flip", "turn")  # keys of [data] that say how images are shown


def train_stages(
    recipe: Recipe,
    runs: Path,
    name: str | None,
    world: World,
    show: Callable[[], Show],
    checked: bool = False,
    until: float = math.inf,
    halt: float = math.inf,
) -> RunDirectory:
    """Train a new run, after all that it needs. Raises UserError.

    show: what a session shows, made anew for each training. Ctrl-C in an earlier stage ends it there, and
    that stage's run is returned; the same command goes on where it was. checked: look for faults of the
    recipe before it is trained, and refuse to begin with one. until: as for `begin`, of all stages together.
    halt: of the last one, a step after which it stops.
    """
    require_free(runs, recipe.name, name)
    check_named(recipe.data)  # told before anything is trained or downloaded
    products: dict[str, Product] = {}
    for key, reference in sources(recipe).items():
        stage = product(key, reference, recipe, runs, world, show, until)
        if isinstance(stage, RunDirectory):
            return stage
        products[key] = stage
    return begin(recipe, runs, name, world, show(), products, checked, until, halt)


def product(
    key: str,
    reference: Reference,
    recipe: Recipe,
    runs: Path,
    world: World,
    show: Callable[[], Show],
    until: float = math.inf,
) -> Product | RunDirectory:
    """What a value of a recipe names, trained now if need be; the run of a stage that was stopped instead."""
    name = reference.partition(":")[2]
    if reference.startswith("recipe:") and key != INIT:
        stage, name = stage_of(name, recipe)
        ended = finish(stage, runs, name, world, show, f"first {name}, for {key} of {recipe.name}", until)
        if ended == "stopped":
            return RunDirectory(runs / name)
    if world.local == 0:
        result = _finished(key, reference, name, runs)
    world.wait()  # the first process of each machine downloads, the others find it done
    if world.local != 0:
        result = _finished(key, reference, name, runs)
    return result


def sources(recipe: Recipe) -> dict[str, Reference]:
    """What has to be there before a run of a recipe begins; afterwards init.from is not needed any more."""
    init = {INIT: recipe.init.from_} if recipe.init.from_ else {}
    return references(recipe) | init


def _finished(key: str, reference: Reference, name: str, runs: Path) -> Product:
    """What a value of a recipe names, which is there by now. Raises UserError. name: of a finished run."""
    if key == INIT:
        return init_product(reference, runs)
    if reference.startswith(("recipe:", "run:")):
        return of_run(reference, name, runs)
    return pretrained(key, reference)


def existing(recipe: Recipe, runs: Path) -> dict[str, Product]:
    """What a recipe needs of other trainings, where it is there already. Raises UserError where it is not."""
    products = {}
    for key, reference in sources(recipe).items():
        name = reference.partition(":")[2]
        if reference.startswith("recipe:") and key != INIT:
            _, name = stage_of(name, recipe)
            if not (runs / name / RUN).is_file():
                raise UserError(
                    f"{key}: {reference} is not trained yet in {runs}; safelight train {recipe.name} begins "
                    "with it"
                )
        products[key] = _finished(key, reference, name, runs)
    return products


def stage_of(source: str, of: Recipe) -> tuple[Recipe, str]:
    """The recipe of a stage and the name of its run: it trains on the images and the device of `of`.

    Other keys of [data], such as columns of captions, are taken over where the stage's recipe is silent.
    """
    stage = load(source)
    theirs = of.data.model_dump(mode="json")
    stated = stage.stated.get("data", {})
    data = {key: value for key, value in theirs.items()
            if key in IMAGES or (key not in SHOWN and key not in stated and value is not None)}  # fmt: skip
    changes = {f"data.{key}": value for key, value in data.items()}
    stage = stage.with_changes({**changes, "train.device": of.train.device})
    return stage, f"{stage.name}-{digest(stage)}"


def finish(
    recipe: Recipe,
    runs: Path,
    name: str,
    world: World,
    show: Callable[[], Show],
    why: str = "",
    until: float = math.inf,
    halt: float = math.inf,
) -> Ended:
    """Train a run of that name to its end, from where it is. Raises UserError.

    why: in words, told before it is trained. halt: a step that does for its end.
    """
    directory = RunDirectory(runs / name)
    status = world.share(_status(directory, recipe) if world.first else None)
    if status == "finished" or (status == "stopped" and world.share(_saved(directory) >= halt)):
        return "done before"
    if status == "running":
        raise UserError(f"{directory.path}: is being trained by another process; wait for it to end")
    if why:
        show().tell(f"{'trains' if status is None else 'goes on with'} {why}")
    if status is None:
        directory = train_stages(recipe, runs, name, world, show, until=until, halt=halt)
    else:
        resume(directory, world, show(), until=until, halt=halt)
    through = summary(directory).status == "finished" or _saved(directory) >= halt
    return "stopped" if not world.share(through) else "trained" if status is None else "resumed"


def _saved(directory: RunDirectory) -> int:
    """The step of the newest checkpoint; 0 for none."""
    return max(checkpoint_files.list_steps(directory.path), default=0)


def _status(directory: RunDirectory, recipe: Recipe) -> Status | None:
    """How a run stands; None where there is none. Raises UserError where it is not of that recipe."""
    renaming.settle(directory.path.parent, directory.name)
    if not (directory.path / RUN).is_file():
        return None
    short = summary(directory)
    if short.status == "damaged":
        raise UserError(f"{directory.path}: {short.problem}")
    if without_about(untreated(directory).recipe_tree()) != without_about(recipe.tree):
        raise UserError(f"{directory.path}: holds another recipe; move it away, or use another --runs")
    return short.status
