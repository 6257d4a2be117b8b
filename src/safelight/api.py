"""The commands as functions: names, paths and dicts in; a run, a dataclass, a dict or a path out.

run: a name, a folder, or an open `Run`. runs: folder of runs; $SAFELIGHT_RUNS or ./runs by default.
changes: recipe keys to change, {"optim.lr": 1e-4}, or sampling keys, {"sample.steps": 20}. tell takes a line,
progress what is being done, how much of it is done, and of how much; both are silent by default.
All raise UserError: one line that says what is wrong and how to fix it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safelight import keys
from safelight.checks.bench.finding import Checked
from safelight.config import UserError, flatten
from safelight.data.source import Progress
from safelight.engine.distributed import World, together
from safelight.engine.plan import too_large
from safelight.evaluate.evaluation import Evaluation
from safelight.explore import collection
from safelight.explore import film as films
from safelight.explore.collection import Kept
from safelight.explore.film import Film, Making
from safelight.explore.projection import ProjectionSettings, projected
from safelight.explore.samples import require_place
from safelight.explore.search.picking import pick
from safelight.explore.search.run import run_search
from safelight.explore.search.settings import Wish
from safelight.explore.search.split import read_split, run_split
from safelight.export.networks import require_new as require_new
from safelight.files import MOST
from safelight.loading import replay as replaying
from safelight.loading.in_force import InForce, doubts, live_only
from safelight.loading.prepare import choose_execution, prepare
from safelight.loading.recorded import recipe_of, spec_of
from safelight.loading.replay import ReplayVerdict
from safelight.planning import devices
from safelight.planning.plan import Planned
from safelight.planning.plan import plan as measure_plan
from safelight.recipe import load
from safelight.report.comparison_page import Written, write_comparison
from safelight.report.log import LogEntry
from safelight.report.log_page import write_log
from safelight.report.run_report import write_report as write_report
from safelight.run import Run
from safelight.samplers.generate import require_known
from safelight.store import inbox, results
from safelight.store.directory import RUN, RunDirectory, find, names, runs_directory
from safelight.store.durable import write_bytes
from safelight.store.listing import Summary, list_runs, summary
from safelight.training import check as checking
from safelight.training import fork as forking
from safelight.training import start
from safelight.training.forecast import require_memory
from safelight.training.grid import Combination, grid
from safelight.training.progress import TrainingProgress
from safelight.training.sweep import Sweep
from safelight.training.sweep import sweep as train_all
from safelight.types import Tell

Named = str | Path | Run


def silent(line: str) -> None:
    """Take a line and print nothing."""


# Train: functions that open a run for Python have a twin that returns its folder, for the command line


def train(
    recipe: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    check: bool = False,
    runs: str | Path | None = None,
    **train_keys: Any,
) -> Run:
    """Train a recipe, shipped or a file, and open the run.

    check: look for faults first. train_keys: keys of [train], such as steps=500 or seed=1. Ctrl-C stops
    cleanly. A script that torchrun starts in several processes trains one run together.
    """
    keys = {f"train.{key}": value for key, value in train_keys.items()}
    return Run(train_directory(recipe, {**(changes or {}), **keys}, name, check, runs))


def train_directory(
    recipe: str | Path, changes: Mapping[str, Any], name: str | None, check: bool, runs: str | Path | None
) -> RunDirectory:
    """`train`, returning the run's folder."""
    with together() as world:
        resolved = load(recipe, changes)
        show = TrainingProgress().show(world.first)
        if any(key.endswith(".lr") for key in changes):
            _warn(show.warn, flatten(load(recipe).tree), changes)
        return start.train_stages(
            resolved, _folder(runs), name, world, lambda: TrainingProgress().show(world.first), checked=check
        )


def resume(run: Named, *, runs: str | Path | None = None) -> Run:
    """Continue a run from its newest good checkpoint, and open it."""
    return Run(resume_directory(run, runs))


def resume_directory(run: Named, runs: str | Path | None) -> RunDirectory:
    """`resume`, returning the run's folder."""
    with together() as world:
        directory = _directory(run, runs, write=True)
        return start.resume(directory, world, TrainingProgress().show(world.first))


def sweep(
    recipe: str,
    words: Sequence[str],
    *,
    seeds: int = 1,
    runs: str | Path | None = None,
    tell: Callable[[Sweep, Combination], None] = lambda sweep, cell: None,
) -> tuple[Sweep, Written | None]:
    """Train every combination of "optim.lr=1e-4,3e-4", each under several seeds, and compare the runs.

    What is trained already is skipped. tell: called before and after each combination. The comparison is
    None where fewer than two runs exist, and after Ctrl-C.
    """
    folder = _folder(runs)
    with together() as world:
        combinations = grid(recipe, list(words), seeds)
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


# Prepare


def check(
    recipe: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    fast: bool = False,
    again: bool = False,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress = lambda what, done, total: None,
) -> Checked:
    """Check a recipe, its data and its networks for silent faults.

    fast: only the checks that `train` begins with. again: also what was checked before.
    """
    resolved = load(recipe, changes or {})
    for line in too_large(resolved.optim):
        tell(line)
    ready = prepare(resolved, World(), tell, start.made(resolved, _folder(runs)), progress)
    require_memory(ready.method, ready.stream.spec, ready.device)
    began = time.perf_counter()
    execution = choose_execution(ready, tell)
    probed = time.perf_counter() - began
    checked = checking.check(ready, execution, fast, again, progress)
    return replace(checked, seconds=checked.seconds + probed)


def full_text(recipe: str | Path) -> str:
    """A recipe with every key, and its meaning, as TOML."""
    return keys.full(load(recipe))


def plan(
    recipe: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    like: str | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress | None = None,
) -> Planned:
    """Estimate parameters, operations, memory, hours and disk of a training, from a few steps of it.

    like: an accelerator to estimate for instead, such as "A100 80GB".
    """
    accelerator = devices.like(like) if like else None
    return measure_plan(load(recipe, changes or {}), _folder(runs), accelerator, tell, progress)


# Change the course of a run


def tune(run: Named, changes: Mapping[str, Any], *, runs: str | Path | None = None) -> inbox.Edit:
    """Change settings of a run from its next step on, while it trains or before it is resumed."""
    directory = _directory(run, runs)
    live_only(changes)
    recipe = InForce.of(directory).recipe_at(MOST)
    recipe.with_changes(changes)  # refused here rather than when it is taken
    short = summary(directory)
    if short.status == "finished":
        words = " ".join(f"{key}={value}" for key, value in changes.items())
        raise UserError(
            f"{directory.name}: finished at step {short.step:,} of {short.steps:,}, so no step would run "
            f"with the change; fork an earlier step: safelight fork {directory.name} --step STEP {words}"
        )
    _warn(TrainingProgress().show().warn, flatten(recipe.tree), changes)
    return inbox.drop(directory.path, changes, "command line")


def fork(
    run: Named,
    step: int,
    changes: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    train: bool = True,
    runs: str | Path | None = None,
) -> Run:
    """Start a new run from any step of another, with recipe keys changed, and open it.

    train: train it now; otherwise `resume` does.
    """
    return Run(fork_directory(run, step, changes or {}, name, train, runs))


def fork_directory(
    run: Named, step: int, changes: Mapping[str, Any], name: str | None, train: bool, runs: str | Path | None
) -> RunDirectory:
    """`fork`, returning the new run's folder."""
    parent, show = _directory(run, runs), TrainingProgress().show()
    _warn_at(parent, step, changes, show.warn)
    made = forking.fork(parent, step, changes, _folder(runs), name, show.tell)
    return start.resume(made, World(), show) if train else made


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
    return Run(rollback_directory(run, step, changes or {}, train, runs))


def rollback_directory(
    run: Named, step: int, changes: Mapping[str, Any], train: bool, runs: str | Path | None
) -> RunDirectory:
    """`rollback`, returning the run's folder."""
    directory, show = _directory(run, runs, write=True), TrainingProgress().show()
    _warn_at(directory, step, changes, show.warn)
    made, before = forking.rollback(directory, step, changes, show.tell)
    show.warn(f"the earlier {made.name} is kept as {before.name}")
    return start.resume(made, World(), show) if train else made


def replay(
    run: Named,
    step: int,
    *,
    export: str | Path | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
) -> ReplayVerdict:
    """Recompute a run up to a step, and check every step against its recorded fingerprint.

    export: a .safetensors file for the averaged weights. `Run.at` opens the run at the step.
    """
    state, verdict = replaying.replay(_directory(run, runs), step, tell)
    if export is not None:
        from safetensors.torch import save

        weights = {f"{name}.{key}": value.contiguous() for name, net in state.averages.networks.items()
                   for key, value in net.state_dict().items()}  # fmt: skip
        write_bytes(Path(export), save(weights))
    return verdict


# Look at runs and samples


def open_run(
    run: str | Path,
    *,
    step: int | str | None = None,
    ema_length: float | None = None,
    runs: str | Path | None = None,
) -> Run:
    """Open a run at a checkpoint, by step or name, such as "best"; the newest by default."""
    return Run.open(run, _folder(runs), step, ema_length)


def runs(folder: str | Path | None = None) -> list[Summary]:
    """The runs of a folder, newest first; damaged ones have a `problem`."""
    return list_runs(_folder(folder))


def specimens(
    run: Named,
    out: str | Path | None = None,
    *,
    step: int | None = None,
    count: int = 30,
    first: int = 0,
    changes: Mapping[str, Any] | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Draw a sheet of named samples: {"out", "step", "ids", "source", "verdict"}.

    out: a .png, RUN-STEP.png by default. step: of the weights, the newest checkpoint's by default. first:
    number of the first sample.
    """
    directory = _directory(run, runs)
    if out is not None and Path(out).suffix != ".png":
        raise UserError(f"{out}: a sheet of specimens is a .png")
    step = collection.newest(directory) if step is None else step
    path = Path(out or f"{directory.name}-{step}.png")
    ids, reached = collection.contact_sheet(directory, path, step, count, first, changes, tell)
    return {"out": str(path), "step": reached.step, "ids": ids, "source": reached.source,
            "verdict": reached.verdict.verdict}  # fmt: skip


def require_samples(
    directory: RunDirectory, out: Path, changes: Mapping[str, Any], conditions: Mapping[str, str]
) -> None:
    """Raises UserError for samples that cannot be made or written, before networks are read."""
    require_place(out)
    recipe = recipe_of(directory).with_changes(changes)
    require_known(spec_of(directory), conditions, recipe.data.attribute_range)


def store_evaluation(run: Run, evaluation: Evaluation) -> Path:
    """Store an evaluation with its run; the report is rewritten, unless the run trains and will do it."""
    path = results.store(run.directory.path, evaluation.name, evaluation.plain())
    if not run.directory.is_locked():
        write_report(run.directory)
    return path


def keep(
    run: Named, ids: Sequence[str], *, runs: str | Path | None = None, tell: Tell = silent
) -> list[Kept]:
    """Add specimens, such as "16500.28", to the collection of a run."""
    return collection.keep_specimens(_directory(run, runs), ids, tell)


def kept(run: Named, *, runs: str | Path | None = None) -> list[tuple[Kept, Path]]:
    """The collection of a run: each specimen and its picture."""
    directory = _directory(run, runs)
    return [(one, collection.picture(directory, one.id)) for one in collection.collection(directory)]


def film(
    run: Named,
    ids: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    begin: int = 0,
    end: int | None = None,
    every: int | None = None,
    fps: float = 30.0,
    number: bool = True,
    changes: Mapping[str, Any] | None = None,
    workers: int = 1,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress = lambda what, done, total: None,
) -> Film:
    """Film specimens from step `begin` to step `end`, the last by default, as .mp4, .webp, .gif or PNGs.

    ids: those filmed live by default. out: RUN.mp4 by default. every: steps between frames. number: write
    the step in a corner. workers: processes that compute frames.
    """
    directory = _directory(run, runs)
    place = Path(out or f"{directory.name}.mp4")
    making = Making(place, fps, number, changes, workers, tell, progress)
    return films.through_training(directory, ids, making, begin, end, every)


def walk(
    run: Named,
    ids: Sequence[str],
    out: str | Path | None = None,
    *,
    frames: int = 120,
    step: int | None = None,
    fps: float = 30.0,
    number: bool = True,
    changes: Mapping[str, Any] | None = None,
    workers: int = 1,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress = lambda what, done, total: None,
) -> Film:
    """Film a walk from specimen to specimen, on the sphere of latents.

    step: of the weights; by default they go from each specimen's step to the next one's. out: RUN-walk.mp4 by
    default. The rest as of `film`.
    """
    directory = _directory(run, runs)
    place = Path(out or f"{directory.name}-walk.mp4")
    making = Making(place, fps, number, changes, workers, tell, progress)
    return films.walk(directory, ids, making, frames, step)


def search(
    run: Named,
    *objectives: str,
    prompt: str | None = None,
    picked: str | None = None,
    split: str | None = None,
    seeds: int = 3,
    changes: Mapping[str, Any] | None = None,
    conditions: Mapping[str, Any] | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Search for latents that score best; returns what result.json holds.

    objectives: "text" (the default), "realism", "reference=IMAGE", "FILE.py:FUNCTION", or "pick" with picked,
    such as "1.3,1.7". split, seeds: compare splits of one budget, such as "100x1000,200x500". settings:
    method, population, generations, budget, encoder, keep, step, seed, name.
    """
    words = tuple(f"{name}={value}" for name, value in (conditions or {}).items())
    chosen = objectives or ("text",)
    wish = Wish(objectives=chosen, prompt=prompt, conditions=words, sample=changes or {}, **settings)
    if picked and "pick" not in chosen:
        raise UserError("--picked: only with --objective pick")
    directory = _directory(run, runs)
    if split:
        return run_split(directory, wish, read_split(split, wish.budget), seeds, tell, progress)
    if "pick" in chosen:
        return pick(directory, wish, picked, tell, progress)
    return run_search(directory, wish, tell, progress)


def project(
    run: Named,
    image: str | Path,
    out: str | Path | None = None,
    *,
    steps: int = 200,
    conditions: Mapping[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
    step: int | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Find the latent whose image is closest to a given image, by Adam, and keep it as a specimen.

    out: picture of image, start and projection; RUN-project.png by default.
    """
    directory = _directory(run, runs)
    settings = ProjectionSettings(Path(image), steps, conditions or {}, changes or {}, step)
    place = Path(out or f"{directory.name}-project.png")
    return projected(directory, settings, place, tell, progress)


# Compare


def compare(
    run: Named, *others: Named, out: str | Path | None = None, runs: str | Path | None = None
) -> Written:
    """Compare runs; writes compare.md and compare.html into `out`, by default the folder of runs."""
    compared = list(dict.fromkeys(_directory(name, runs) for name in (run, *others)))
    if len(compared) < 2:
        raise UserError("compare: name two runs or more, for example: safelight compare digits-1 digits-2")
    return write_comparison(compared, Path(out) if out else _folder(runs), "compare")


def log(
    *, full: int = 20, runs: str | Path | None = None
) -> tuple[Sequence[LogEntry], Path | None, Path | None]:
    """Write log.md and log.html; returns the entries, newest first, and the paths, None where no run exists.

    full: number of runs in full detail.
    """
    folder = _folder(runs)
    return write_log(folder, full) if names(folder) else ((), None, None)


def _folder(runs: str | Path | None) -> Path:
    return runs_directory(Path(runs) if runs else None)


def _directory(run: Named, runs: str | Path | None, write: bool = False) -> RunDirectory:
    return run.directory if isinstance(run, Run) else find(run, _folder(runs), write=write)


def _warn(warn: Tell, before: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """A line for each change that is doubtful, given the settings before it, by dotted key."""
    for line in doubts(before, changes):
        warn(line)


def _warn_at(run: RunDirectory, step: int, changes: Mapping[str, Any], warn: Tell) -> None:
    _warn(warn, flatten(InForce.of(run).recipe_at(step).tree), changes)
