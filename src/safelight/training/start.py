"""A run is begun or resumed, trained to its end or to Ctrl-C, and reported."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w

from safelight.checks.bench.finding import Checked
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.memory import require_memory
from safelight.engine.plan import too_large
from safelight.engine.precision import Execution
from safelight.engine.state import State
from safelight.files import MOST
from safelight.loading.dependencies import Products, plain, products_of
from safelight.loading.in_force import InForce, live_only, require_steps
from safelight.loading.init_source import INIT
from safelight.loading.prepare import Prepared, environment_of, prepare
from safelight.loading.probe import choose_execution
from safelight.loading.recorded import code_facts, data_facts, execution_of, recipe_of, require_data
from safelight.loading.seam import joined
from safelight.recipe import Recipe
from safelight.report.run_report import unconditional, write_report
from safelight.store import checkpoint, checkpoint_files, inbox, listing, metrics
from safelight.store.directory import RunDirectory, create
from safelight.store.durable import remove_tree
from safelight.store.info import Facts
from safelight.store.journal_writer import JournalWriter
from safelight.store.listing import summary
from safelight.training.check import before_training
from safelight.training.forecast import require_room
from safelight.training.progress import Show
from safelight.training.remedies import settle
from safelight.training.session import Session, ahead
from safelight.types import Tell


def begin(
    recipe: Recipe,
    runs: Path,
    name: str | None,
    world: World,
    show: Show,
    products: Products = MappingProxyType({}),
    checked: bool = False,
    until: float = math.inf,
    halt: float = math.inf,
) -> RunDirectory:
    """Train a new run, until it is finished or Ctrl-C stops it. Raises UserError.

    products: of the trainings that came before it; `train_stages` makes them. checked: look for
    faults first, and refuse to begin with one. until: by `time.monotonic`, it stops in time for a checkpoint.
    """
    for line in too_large(recipe.optim):
        show.warn(line)
    ready = _opened(recipe, world, show, products)
    recipe = ready.recipe
    if world.first and (
        note := unconditional(recipe, {"conditions": ready.pack.conditions, "name": ready.pack.name})
    ):
        show.warn(note)
    execution = choose_execution(ready, show.tell)
    looked_at = checked and not ready.cut  # the checks train whole networks, alone
    findings = before_training(ready, execution, show.tell, show.warn) if looked_at else None
    state = ready.state(execution.memory_format, compile=execution.compile)
    path, init, groups = None, {}, state.groups()
    if ready.transfer:
        for line in ready.transfer.lines():
            show.tell(line)
        init = ready.transfer.facts() | {"state": checkpoint.digest(groups)}
    if world.first:
        require_room(ahead(ready, state), runs)
        path = create(
            runs,
            tomli_w.dumps(recipe.tree),
            recipe=recipe.name,
            steps=ready.plan.steps,
            name=name,
            facts=Facts(
                data=data_facts(ready.pack, ready.stream.space),
                code=code_facts(recipe),
                environment=environment_of(ready, execution),
                execution=asdict(execution),
                products=plain({key: value for key, value in products.items() if key != INIT}),
                init=init,
            ),
            fill=lambda run: checkpoint.save(run, 0, groups, {"edits": 0}) if init else None,
        ).path
    directory = RunDirectory(Path(str(world.share(str(path)))))
    try:
        left = _run(directory, ready, execution, state, show, findings, until, halt)
    except Exception:
        if (
            world.first
            and metrics.last_row(directory.path) is None
            and not any(checkpoint_files.list_steps(directory.path))
        ):
            remove_tree(directory.path)  # it has not trained one step
        raise
    del ready, state  # before those of a fork are made
    return resume(directory, world, show, until=until, halt=halt) if left else directory


def resume(
    directory: RunDirectory,
    world: World,
    show: Show,
    changes: Mapping[str, Any] = MappingProxyType({}),
    join: str | None = None,
    until: float = math.inf,
    halt: float = math.inf,
) -> RunDirectory:
    """Go on with a run from its newest good checkpoint, its recipe changed from there. Raises UserError.

    join: of the learning rate where the length is changed, see `seam.joined`. until: by `time.monotonic`, it
    stops in time for a checkpoint; a finished run goes on for about as many steps as that takes. Where its
    monitor left it for a remedy, the run that has its name afterwards goes on, in all processes.
    """
    if world.first:
        change(directory, changes, join, until, show.warn)
    world.wait()
    left = True
    while left:
        if world.first and (aside := settle(directory, show.warn)):
            write_report(aside)
        world.wait()
        left = _resumed(directory, world, show, until, halt)
    return directory


def change(
    directory: RunDirectory, changes: Mapping[str, Any], join: str | None, until: float, warn: Tell
) -> None:
    """Leave an edit for the session that comes. Raises UserError for changes that it could not take."""
    if until < math.inf and not any(key in inbox.LENGTH for key in changes):
        changes = {**changes, **_steps_until(directory, until)}
    if not changes:
        if join:
            raise UserError("--schedule: nothing is trained longer; add --steps or --for")
        return
    if directory.is_locked():
        words = " ".join(f"{key}={value}" for key, value in changes.items())
        raise UserError(f"{directory.name}: is being trained; safelight tune {directory.name} {words}")
    live_only(changes)
    in_force, images = InForce.of(directory), int(directory.info().facts.data["train"])
    step = _reached(directory)
    before = in_force.recipe_at(MOST)
    changed, line = joined(before, images, step, changes, join)
    if join == "extend" and not line:
        warn("--schedule extend: the learning rate is the same either way")
    require_steps(before.with_changes(changed), images, step, changed)
    if line:
        warn(line)
    inbox.drop(directory.path, changed, "command line")


def _reached(directory: RunDirectory) -> int:
    """The first step that never ran."""
    parent = directory.info().parent
    return max(metrics.reached(directory.path), parent.step if parent else 0)


def _steps_until(directory: RunDirectory, until: float) -> dict[str, int]:
    """The length with which a finished run trains on until then, by its last steps; {} for another run."""
    short = summary(directory)
    if short.status != "finished" or short.step < short.steps:
        return {}
    seconds = statistics.median(row.seconds for row in listing.last_rows(directory, 100))
    more = int(max(until - time.monotonic(), 0) / max(seconds, 1e-6))
    return {"train.steps": short.step + max(more, 1)}


def _resumed(directory: RunDirectory, world: World, show: Show, until: float, halt: float) -> bool:
    """One session of a run that is there; whether its monitor left it."""
    recipe = recipe_of(directory)
    ready = _opened(recipe, world, show, products_of(directory))
    require_data(directory, ready.pack)
    execution = Execution(**execution_of(directory))
    state = ready.state(execution.memory_format, compile=execution.compile)
    if world.first:
        require_room(ahead(ready, state), directory.path, sum(listing.by_kind(directory.path).values()))
    return _run(directory, ready, execution, state, show, until=until, halt=halt)


def _opened(recipe: Recipe, world: World, show: Show, products: Products) -> Prepared:
    """What a session trains with; no bar is left behind where it cannot be opened."""
    try:
        ready = prepare(recipe, world, show.tell, products, show.progress)
        require_memory(ready.method, ready.stream.spec, ready.device, world.size if ready.cut else 1)
        return ready
    except BaseException:
        show.end()
        raise


def _run(
    directory: RunDirectory,
    ready: Prepared,
    execution: Execution,
    state: State,
    show: Show,
    findings: Checked | None = None,
    until: float = math.inf,
    halt: float = math.inf,
) -> bool:
    """One session, and its report; whether the run's monitor left it."""
    with ExitStack() as stack:
        writer = None
        if ready.world.first:
            stack.enter_context(directory.lock())
            writer = stack.enter_context(JournalWriter(directory.journal_path))
            if findings:
                writer.append("check", findings.to_dict())
        session = Session(directory, ready, execution, state, show, writer, until, halt)
        try:
            left = session.go()
        finally:
            show.end()
    if ready.world.first and not (left or session.rests):
        report = write_report(directory)
        show.tell(f"report: {report}")
    return left
