"""Trainings that come before a training: a recipe may need what another one makes.

A value "recipe:NAME" is trained first, into the same runs directory, under a name that is a function of its
settings: what is finished is taken as it is, what was begun is resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from safelight.config import Reference, UserError
from safelight.data import check_named
from safelight.engine.distributed import World
from safelight.recipes.recipe import Recipe, load
from safelight.session import train
from safelight.session.grid import digest, said
from safelight.session.products import Product, of_run, pretrained, references
from safelight.session.show import Show
from safelight.session.treatment import untreated
from safelight.store import rename
from safelight.store.create import require_free
from safelight.store.listing import Status, summary
from safelight.store.run import RUN, RunDirectory

Ended = Literal["trained", "resumed", "done before", "stopped"]
IMAGES = ("source", "path", "layout", "subset", "revision", "size", "channels", "held_out", "skip_bad",
          "follow_links")  # fmt: skip
OWN = ("latents", "balance", "flip", "turn")  # keys of [data] that say how images are shown, not which


def begin(
    recipe: Recipe,
    runs: Path,
    name: str | None,
    world: World,
    show: Callable[[], Show],
    checked: bool = False,
) -> RunDirectory:
    """Train a new run, after all that it needs. Raises UserError.

    show: what a session shows, made anew for each training. Ctrl-C in an earlier stage ends it there, and
    that stage's run is returned; the same command goes on where it was. checked: look for faults of the
    recipe before it is trained, and refuse to begin with one.
    """
    require_free(runs, recipe.name, name)
    check_named(recipe.data)  # told before anything is trained or downloaded
    products: dict[str, Product] = {}
    for key, reference in references(recipe).items():
        made = product(key, reference, recipe, runs, world, show)
        if isinstance(made, RunDirectory):
            return made
        products[key] = made
    return train.begin(recipe, runs, name, world, show(), products, checked)


def product(
    key: str, reference: Reference, recipe: Recipe, runs: Path, world: World, show: Callable[[], Show]
) -> Product | RunDirectory:
    """What a value of a recipe names, trained now if need be; the run of a stage that was stopped instead."""
    kind, _, name = reference.partition(":")
    if kind == "recipe":
        stage = stage_recipe(name, recipe)
        name = f"{stage.name}-{digest(stage)}"
        ended = finish(stage, runs, name, world, show, f"first {name}, for {key} of {recipe.name}")
        if ended == "stopped":
            return RunDirectory(runs / name)
    if world.local == 0:
        found = of_run(reference, name, runs) if kind in ("recipe", "run") else pretrained(key, reference)
    world.wait()  # the first process of each machine downloads, the others find it done
    if world.local != 0:
        found = of_run(reference, name, runs) if kind in ("recipe", "run") else pretrained(key, reference)
    return found


def made(recipe: Recipe, runs: Path) -> dict[str, Product]:
    """What a recipe needs of other trainings, where it is there already. Raises UserError where it is not."""
    found = {}
    for key, reference in references(recipe).items():
        kind, _, name = reference.partition(":")
        if kind == "recipe":
            stage = stage_recipe(name, recipe)
            name = f"{stage.name}-{digest(stage)}"
            if not (runs / name / RUN).is_file():
                raise UserError(
                    f"{key}: {reference} is not trained yet in {runs}; safelight train {recipe.name} begins "
                    "with it"
                )
        found[key] = (
            of_run(reference, name, runs) if kind in ("recipe", "run") else pretrained(key, reference)
        )
    return found


def stage_recipe(source: str, of: Recipe) -> Recipe:
    """The recipe of a stage: it trains on the images and on the device of the recipe that needs it.

    Other keys of [data], such as columns of captions, are taken over where the stage's recipe is silent.
    """
    stage = load(source)
    theirs = of.data.model_dump(mode="json")
    stated = stage.stated.get("data", {})
    data = {key: value for key, value in theirs.items()
            if key in IMAGES or (key not in OWN and key not in stated and value is not None)}  # fmt: skip
    changes = {f"data.{key}": value for key, value in data.items()}
    return stage.with_changes({**changes, "train.device": of.train.device})


def finish(
    recipe: Recipe, runs: Path, name: str, world: World, show: Callable[[], Show], why: str = ""
) -> Ended:
    """Train a run of that name to its end, from where it is. Raises UserError.

    why: in words, told before it is trained.
    """
    directory = RunDirectory(runs / name)
    found = world.share(_found(directory, recipe) if world.first else None)
    if found == "finished":
        return "done before"
    if found == "running":
        raise UserError(f"{directory.path}: is being trained by another process; wait for it to end")
    if why:
        show().tell(f"{'trains' if found is None else 'goes on with'} {why}")
    if found is None:
        directory = begin(recipe, runs, name, world, show)
    else:
        train.resume(directory, world, show())
    ended = world.share(summary(directory).status if world.first else None)
    return "stopped" if ended != "finished" else "trained" if found is None else "resumed"


def _found(directory: RunDirectory, recipe: Recipe) -> Status | None:
    """How a run stands; None where there is none. Raises UserError where it is not of that recipe."""
    rename.settle(directory.path.parent, directory.name)
    if not (directory.path / RUN).is_file():
        return None
    one = summary(directory)
    if one.status == "damaged":
        raise UserError(f"{directory.path}: {one.problem}")
    if said(untreated(directory).recipe_tree()) != said(recipe.tree):
        raise UserError(f"{directory.path}: holds another recipe; move it away, or use another --runs")
    return one.status
