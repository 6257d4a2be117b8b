"""Train and resume runs, and change their course."""

from __future__ import annotations

import math
import runpy
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safelight.api import directory_of, folder_of, silent
from safelight.config import Tree, UserError, flatten
from safelight.data.edits import is_edit, pinned, require_items
from safelight.data.source import Progress
from safelight.engine.distributed import World, together
from safelight.files import MOST
from safelight.loading import replay as replaying
from safelight.loading.dependencies import products_of, used
from safelight.loading.in_force import InForce, doubts, live_only
from safelight.loading.model import ReplayVerdict
from safelight.loading.prepare import open_device
from safelight.loading.recorded import MACHINE, data_of
from safelight.loading.recorded import relocate as relocated
from safelight.loading.stretches import replay_through
from safelight.planning.first_look import first_look, is_data
from safelight.planning.fit import fitted
from safelight.recipe import Recipe, load, resolve
from safelight.report.comparison_page import Written, write_comparison
from safelight.run import Run
from safelight.store import inbox
from safelight.store.directory import RUN, RunDirectory
from safelight.store.durable import write_bytes
from safelight.store.listing import owner_of, summary
from safelight.terminal import paced
from safelight.training import bisect as bisecting
from safelight.training import fork as forking
from safelight.training import stages, start
from safelight.training.grid import Combination, grid
from safelight.training.progress import Show, TrainingProgress
from safelight.training.sweep import Sweep, sweep_at_once
from safelight.training.sweep import sweep as train_all
from safelight.types import Tell

if TYPE_CHECKING:
    from safelight.api import Named


def train(
    recipe: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    minutes: float | None = None,
    check: bool = False,
    seconds: float = math.inf,
    runs: str | Path | None = None,
    **train_keys: Any,
) -> Run:
    """Train a recipe, shipped or a file, or a folder of pictures, and open the run.

    For a folder everything is chosen that `changes` do not state, so that it takes about so many minutes; a
    recipe is made as long as the minutes, if any are given, and its rate, warm-up and average go with that.
    check: look for faults first. seconds: after which it stops, to be resumed. train_keys: keys of [train],
    such as steps=500 or seed=1. Ctrl-C stops cleanly. A script that torchrun starts in several processes
    trains one run together.
    """
    keys = {f"train.{key}": value for key, value in train_keys.items()}
    changes, until = {**(changes or {}), **keys}, time.monotonic() + seconds
    with together() as world:
        show = TrainingProgress().show(world.first)
        resolved = _chosen(recipe, changes, minutes, folder_of(runs), world, show)
        if not is_data(recipe) and any(key.endswith(".lr") for key in changes):
            _warn(show.warn, flatten(load(recipe).tree), changes)
        return Run(
            stages.train_stages(
                resolved,
                folder_of(runs),
                name,
                world,
                lambda: TrainingProgress().show(world.first),
                checked=check,
                until=until,
            )
        )


def resume(
    run: Named,
    changes: Mapping[str, Any] | None = None,
    *,
    schedule: str | None = None,
    seconds: float = math.inf,
    runs: str | Path | None = None,
) -> Run:
    """Continue a run from its newest good checkpoint, and open it.

    changes: from its next step on, such as {"train.steps": 4000} to train longer; on another machine where
    its data are, {"data.path": ...}, see `relocate`, and {"train.device": "cpu"} or train.precision.
    schedule: of the learning rate of a longer run: "constant", "restart" or "extend". seconds: after which it
    stops, to be resumed; a finished run trains on for about as long.
    """
    until = time.monotonic() + seconds
    with together() as world:
        directory = directory_of(run, runs, write=True)
        show = TrainingProgress().show(world.first)
        rest = _moved_first(directory, changes or {}) if world.first else {}
        world.wait()
        return Run(start.resume(directory, world, show, rest, schedule, until))


def relocate(run: Named, places: Mapping[str, Any], *, runs: str | Path | None = None) -> None:
    """Record where the data of a run are now, {"data.path": ...}: from here on they are read there.

    Raises UserError where they are not what the run was trained on.
    """
    relocated(directory_of(run, runs, write=True), places)


def _moved_first(directory: RunDirectory, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes without places of data and without what computes, which are recorded. Raises UserError."""
    places = {key: value for key, value in changes.items()
              if (key.startswith("data.") and not is_edit(key)) or key in MACHINE}  # fmt: skip
    if device := places.get("train.device"):
        open_device(str(device))
    if places:
        relocated(directory, places)
    return {key: value for key, value in changes.items() if key not in places}


def sweep(
    recipe: str,
    words: Sequence[str],
    *,
    seeds: int = 1,
    on: str | None = None,
    runs: str | Path | None = None,
    tell: Callable[[Sweep, Combination], None] = lambda sweep, cell: None,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Sweep, Written | None]:
    """Train every combination of "optim.lr=1e-4,3e-4", each under several seeds, and compare the runs.

    What is trained already is skipped. on: where several are trained at once, such as "local:4", see
    `fanout.pool`; by default one after another, here. tell: called before and after each combination.
    The comparison is None where fewer than two runs exist, and after Ctrl-C.
    """
    folder = folder_of(runs)
    with together() as world:
        combinations = grid(recipe, list(words), seeds)
        if on and world.size > 1:
            raise UserError("--on: starts processes of its own; leave out torchrun")
        if on:
            done = sweep_at_once(combinations.cells, folder, on, tell, progress)
        else:
            done = train_all(
                combinations.cells, folder, world, lambda: TrainingProgress().show(world.first),
                tell if world.first else lambda sweep, cell: None,
            )  # fmt: skip
    trained = [
        RunDirectory(folder / cell.name) for cell in done.cells if (folder / cell.name / RUN).is_file()
    ]
    if not world.first or done.stopped or len(trained) < 2:
        return done, None
    labels = {cell.name: cell.label for cell in combinations.cells}
    return done, write_comparison(trained, folder, combinations.name, combinations.title, labels)


def tune(run: Named, changes: Mapping[str, Any], *, runs: str | Path | None = None) -> inbox.Edit:
    """Change settings of a run from its next step on, while it trains or before it is resumed."""
    directory = directory_of(run, runs)
    live_only(changes)
    recipe = InForce.of(directory).recipe_at(MOST)
    changes = _pinned(directory, recipe, changes)
    recipe.with_changes(changes)  # refused here rather than when it is taken
    short = summary(directory)
    if (
        short.status == "finished"
        and short.step >= short.steps
        and not any(key in inbox.LENGTH for key in changes)
    ):
        words = " ".join(f"{key}={value}" for key, value in changes.items())
        raise UserError(
            f"{directory.name}: finished at step {short.step:,} of {short.steps:,}, so no step would run "
            f"with the change; fork an earlier step: safelight fork {directory.name} --step STEP {words}"
        )
    _warn(TrainingProgress().show().warn, flatten(recipe.tree), changes)
    return inbox.drop(directory.path, changes, "command line")


def _pinned(directory: RunDirectory, recipe: Recipe, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes whose images have the hash of what they are. Raises UserError, also where none is left."""
    if not any(map(is_edit, changes)):
        return dict(changes)
    pack = data_of(directory, used(recipe, products_of(directory)))
    changes = pinned(changes, recipe.data, pack)
    require_items(recipe.with_changes(changes).data, pack)
    return changes


def fork(
    run: Named,
    step: int | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    without: Sequence[str] = (),
    name: str | None = None,
    train: bool = True,
    schedule: str | None = None,
    runs: str | Path | None = None,
) -> Run:
    """Start a new run from any step of another, its last by default, with recipe keys changed, and open it.

    without: images and classes that do not count there, and .txt files that list them, besides those that do
    not count in the run: with step=0 the same training without them. train: train it now; otherwise `resume`
    does. schedule: as for `resume`.
    """
    parent, show = directory_of(run, runs), TrainingProgress().show()
    changes, moved = _moved_first(parent, changes or {}), bool(changes or without)
    step = summary(parent).step if step is None else step
    if without:
        before = InForce.of(owner_of(parent, step)).recipe_at(step).data.without or ()
        stated = changes.get("data.without", before)
        stated = [stated] if isinstance(stated, str) else stated
        changes["data.without"] = [*stated, *(name for text in without for name in _listed(text))]
    if moved and not changes:
        raise UserError(
            f"{parent.name}: its data are read from the new place from now on; to fork it with nothing else "
            f"changed: safelight fork {parent.name} --step {step}"
        )
    _warn_at(parent, step, changes, show.warn)
    made = forking.fork(parent, step, changes, folder_of(runs), name, show.warn, join=schedule)
    return Run(start.resume(made, World(), show) if train else made)


def _listed(text: str) -> list[str]:
    """The lines of a .txt file that is there; otherwise the text itself."""
    path = Path(text)
    if path.suffix != ".txt" or not path.is_file():
        return [text]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{text}: cannot be read as a list of images ({error})") from error
    return [line.strip() for line in lines if line.strip()]


def rollback(
    run: Named,
    step: int,
    changes: Mapping[str, Any] | None = None,
    *,
    train: bool = True,
    runs: str | Path | None = None,
) -> Run:
    """Continue a run from an earlier step, and open it. The run as it was is kept as RUN-before-STEP.

    train: train it now; otherwise `resume` does.
    """
    directory, show = directory_of(run, runs, write=True), TrainingProgress().show()
    changes = _moved_first(directory, changes or {})
    _warn_at(directory, step, changes, show.warn)
    made, before = forking.rollback(directory, step, changes, show.tell)
    show.warn(f"the earlier {made.name} is kept as {before.name}")
    return Run(start.resume(made, World(), show) if train else made)


def replay(
    run: Named,
    step: int,
    *,
    begin: int | None = None,
    on: str | None = None,
    export: str | Path | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress = lambda what, done, total: None,
) -> ReplayVerdict:
    """Recompute a run up to a step, and check every step against its recorded fingerprint.

    begin: recompute every step from there, whatever checkpoints follow. on: where the stretches between
    checkpoints are recomputed at once, see `fanout.pool`; from the first step by default. export: a
    .safetensors file for the averaged weights. `Run.at` opens the run at the step.
    """
    directory = directory_of(run, runs)
    through = replay_through(directory, begin, step, on, progress) if begin is not None or on else None
    if through and export is None:
        return through
    state, verdict = replaying.replay(directory, step, tell)
    if export is not None:
        from safetensors.torch import save

        weights = {f"{name}.{key}": value.contiguous() for name, net in state.averages.networks.items()
                   for key, value in net.state_dict().items()}  # fmt: skip
        write_bytes(Path(export), save(weights))
    return through or verdict


def _chosen(
    source: str | Path,
    changes: Mapping[str, Any],
    minutes: float | None,
    runs: Path,
    world: World,
    show: Show,
) -> Recipe:
    """The recipe of a name or file; of a folder the one that the first process makes."""
    if not is_data(source):
        recipe, fit = load(source, changes), None
        if minutes is None:
            return recipe
        if world.first:
            fit, line = fitted(recipe, changes, minutes, runs, show.tell)
            show.warn(line)
        return recipe.with_changes(cast("dict[str, Any]", world.share(fit)))
    made = None
    if world.first:
        look = first_look(
            source, changes, minutes, show.tell, show.progress or paced(show.tell, at_once=False)
        )
        for line in look.lines:
            show.warn(line)
        made = [look.recipe.stated, look.recipe.name]
    tree, name = cast("tuple[Tree, str]", world.share(made))
    return resolve(tree, name)


def _warn(warn: Tell, before: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """A line for each change that is doubtful, given the settings before it, by dotted key."""
    for line in doubts(before, changes):
        warn(line)


def _warn_at(run: RunDirectory, step: int, changes: Mapping[str, Any], warn: Tell) -> None:
    _warn(warn, flatten(InForce.of(run).recipe_at(step).tree), changes)


def bisect(
    run: Named,
    verdict: str | Callable[[Run], bool],
    *,
    over: str = "edits",
    step: int = 0,
    runs: str | Path | None = None,
    tell: Tell = silent,
) -> bisecting.Bisection:
    """Find which edit, loss component or image made a run what it is, by forks without some of them.

    verdict: a name such as "mode collapse", a recorded number as in "held_out/mean > 0.3",
    "FILE.py:FUNCTION", or a function of a run. over: "edits", "components" or "items"; without those, forks
    begin at `step`, without edits at the first one. Rerun it to continue.
    """
    directory = directory_of(run, runs)
    judge = _function(verdict) if isinstance(verdict, str) and ".py:" in verdict else verdict
    if isinstance(judge, str):
        condition = bisecting.condition_of(judge)
    else:
        condition = lambda directory: bool(judge(Run(directory)))  # noqa: E731
    show = lambda: TrainingProgress().show()  # noqa: E731
    return bisecting.bisect(directory, condition, over, step, show, tell)


def _function(text: str) -> Callable[[Run], bool]:
    """The function of a Python file that the user names. Raises UserError."""
    path, _, name = text.rpartition(":")
    try:
        return cast("Callable[[Run], bool]", runpy.run_path(path)[name])
    except (OSError, LookupError, SyntaxError) as error:
        raise UserError(f"--verdict {text}: {path} does not give a function {name} ({error})") from error
