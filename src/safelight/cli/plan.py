"""safelight plan: what a recipe will take, before it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli.options import ChangesArgument, JsonOption, RunsOption, changes_of, examples, print_json
from safelight.terminal import say

if TYPE_CHECKING:
    from safelight.planning.plan import Planned


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples('safelight plan skin --like "A100 80GB"'))(plan)


def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe, or a .toml file.")],
    changes: ChangesArgument = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="Measure here: cuda:0, cpu; else the recipe's."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="NAME", help='Estimate for another, such as "A100 80GB".'),
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell parameters, operations, memory, hours and disk of a training, from a few steps of it."""
    from safelight.cli.bar import bar
    from safelight.planning import devices
    from safelight.planning.plan import plan as measure
    from safelight.recipe import load
    from safelight.store.directory import runs_directory

    wanted = changes_of(changes) | ({"train.device": device} if device else {})
    accelerator = devices.like(like) if like else None
    with bar() as (tell, progress):
        planned = measure(load(recipe, wanted), runs_directory(runs), accelerator, tell, progress)
    if as_json:
        print_json(planned.plain())
    else:
        print_plan(planned)


def print_plan(planned: Planned) -> None:
    """The plan in words."""
    from safelight.render.wording import duration
    from safelight.store.size import words

    rows = planned.batch_size // planned.accumulate
    seconds = planned.cost.seconds
    execution = planned.execution
    say(f"{planned.recipe} on {planned.device}, {execution.precision} {execution.memory_format}")
    for name, count in planned.parameters.items():
        say(f"  {name:<14}{count:,} parameters")
    say(f"  a step        {planned.batch_size} images in {planned.accumulate} part(s), "
          f"{planned.operations / 1e9:,.1f} GFLOP")  # fmt: skip
    kimg = duration(seconds / planned.batch_size * 1000)
    say(f"  time          {seconds:.3g} s a step, {kimg} a kimg ({planned.cost_how})")
    say(f"  the run       {planned.steps:,} steps: {duration(planned.hours * 3600)}")
    say("  memory by images at once")
    for one in planned.memory:
        own = "   the recipe's" if one.rows == rows else ""
        say(f"    {one.rows:>8,}  {words(one.bytes):>8}  {one.how}{own}")
    parts = f"train.accumulate={planned.suggested}" if planned.suggested else "not even one image"
    say(f"  fits          {planned.fits:,} images at once in {words(planned.available)}: {parts}")
    say(f"  disk          {planned.disk.told}")
    for note in planned.notes:
        say(f"note: {note}")
