"""A run is begun or resumed, trained to its end or to Ctrl-C, and reported."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import tomli_w

from safelight.checks.bench.finding import Checked
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.precision import Execution
from safelight.engine.schedule import too_large
from safelight.engine.state import State
from safelight.recipes.recipe import Recipe
from safelight.session.check import before_training
from safelight.session.code import code_facts
from safelight.session.forecast import require_memory, require_room
from safelight.session.prepare import Prepared, choose_execution, environment_of, prepare
from safelight.session.products import Products, plain, products_of
from safelight.session.recorded import data_facts, recipe_of
from safelight.session.report import unconditional, write_report
from safelight.session.session import Session, ahead
from safelight.session.show import Show
from safelight.session.treatment import settle
from safelight.store import keep, metrics, usage
from safelight.store.create import create
from safelight.store.durable import remove_tree
from safelight.store.journal import JournalWriter
from safelight.store.run import Facts, RunDirectory


def begin(
    recipe: Recipe,
    runs: Path,
    name: str | None,
    world: World,
    show: Show,
    products: Products = MappingProxyType({}),
    checked: bool = False,
) -> RunDirectory:
    """Train a new run, until it is finished or Ctrl-C stops it. Raises UserError.

    products: of the trainings that came before it; see stages.py, which also makes them. checked: look for
    faults first, and refuse to begin with one.
    """
    for line in too_large(recipe.optim):
        show.warn(line)
    ready = _opened(recipe, world, show, products)
    if world.first and (
        note := unconditional(recipe, {"conditions": ready.pack.conditions, "name": ready.pack.name})
    ):
        show.warn(note)
    execution = choose_execution(ready, show.tell)
    found = before_training(ready, execution, show.tell, show.warn) if checked else None
    state = ready.state(execution.memory_format)
    path = None
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
                products=plain(products),
            ),
        ).path
    directory = RunDirectory(Path(str(world.share(str(path)))))
    try:
        left = _run(directory, ready, execution, state, show, found)
    except Exception:
        if world.first and metrics.last_row(directory.path) is None and not keep.list_steps(directory.path):
            remove_tree(directory.path)  # it has not trained one step
        raise
    del ready, state  # before those of a fork are made
    return resume(directory, world, show) if left else directory


def resume(directory: RunDirectory, world: World, show: Show) -> RunDirectory:
    """Go on with a run from its newest good checkpoint. Raises UserError.

    Where its monitor left it for a remedy, the run that has its name afterwards goes on, in all processes.
    """
    left = True
    while left:
        if world.first and (aside := settle(directory, show.warn)):
            write_report(aside)
        world.wait()
        left = _resumed(directory, world, show)
    return directory


def _resumed(directory: RunDirectory, world: World, show: Show) -> bool:
    """One session of a run that is there; whether its monitor left it."""
    recipe = recipe_of(directory)
    ready = _opened(recipe, world, show, products_of(directory))
    facts = directory.info().facts
    if ready.pack.fingerprint != facts.data["fingerprint"]:
        raise UserError(
            f"{directory.path}: the data has changed since the run began "
            f"({len(ready.pack)} images now); put it back, or train a new run"
        )
    execution = Execution(**facts.execution)
    state = ready.state(execution.memory_format)
    if world.first:
        require_room(ahead(ready, state), directory.path, sum(usage.by_kind(directory.path).values()))
    return _run(directory, ready, execution, state, show)


def _opened(recipe: Recipe, world: World, show: Show, products: Products) -> Prepared:
    """What a session trains with; no bar is left behind where it cannot be opened."""
    try:
        ready = prepare(recipe, world, show.tell, products, show.progress)
        require_memory(ready.method, ready.stream.spec, ready.device)
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
    found: Checked | None = None,
) -> bool:
    """One session, and its report; whether the run's monitor left it."""
    with ExitStack() as stack:
        writer = None
        if ready.world.first:
            stack.enter_context(directory.lock())
            writer = stack.enter_context(JournalWriter(directory.journal_path))
            if found:
                writer.append("check", found.plain())
        session = Session(directory, ready, execution, state, show, writer)
        try:
            left = session.go()
        finally:
            show.end()
    if ready.world.first and not left:
        report = write_report(directory)
        show.tell(f"report: {report}")
    return left
