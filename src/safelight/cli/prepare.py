"""safelight recipes, new, check, plan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import safelight as sl
from safelight import api
from safelight import recipes as shipped
from safelight.checks.bench.finding import page
from safelight.cli.options import (
    ChangesArgument,
    DeviceOption,
    JsonOption,
    MinutesOption,
    OnOption,
    RecipeArgument,
    RunsOption,
    changes_of,
    examples,
    print_json,
)
from safelight.config import UserError, read_toml
from safelight.store import size
from safelight.terminal import bar, console, plain, say, table

if TYPE_CHECKING:
    from safelight.checks.bench.finding import Checked
    from safelight.planning.plan import Planned

COLOURS = {"error": "red", "warning": "yellow", "note": "dim"}

app = typer.Typer()


@app.command()
def recipes(as_json: JsonOption = False) -> None:
    """List the shipped recipes, with their size and expected time.

    Those that a CPU trains come first.
    """
    abouts = {name: read_toml(shipped.path(name))["about"] for name in shipped.names()}
    abouts = dict(sorted(abouts.items(), key=lambda item: "CPU" not in item[1]["time"]))
    if as_json:
        print_json([{"name": name, **about} for name, about in abouts.items()])
        return
    rows = [
        row
        for name, about in abouts.items()
        for row in ((name, about["title"]), ("", f"{about['size']}; {about['time']}"))
    ]
    console().print(table(("recipe", "what it trains"), rows))


@app.command(
    epilog=examples(
        "safelight new my.toml --from fashion",
        "safelight new my.toml --from photos/ --minutes 20",
        "safelight new all.toml --from fashion --full",
    )
)
def new(
    path: Annotated[Path, typer.Argument(metavar="FILE.toml", help="File to write.")],
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="RECIPE", help="Recipe to start from, or a folder or zip of pictures."
        ),
    ] = "digits",
    full: Annotated[bool, typer.Option("--full", help="Write every key, with its meaning.")] = False,
    minutes: MinutesOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a recipe to edit.

    For a folder of pictures it is made for them, with the reason of every key.
    """
    if path.suffix != ".toml":
        raise UserError(f"{path}: a recipe's name ends in .toml")
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; choose another name")
    look = None
    if api.prepare.is_data(source):
        if full:
            raise UserError(f"--full: a recipe made for a folder has its reasons instead; then: "
                            f"safelight new all.toml --from {path} --full")  # fmt: skip
        with bar() as (tell, progress):
            changes = {"train.device": device} if device else {}
            look = api.prepare.look(source, changes, minutes=minutes, tell=tell, progress=progress)
        text = look.text
    elif minutes is not None or device:
        raise UserError(
            f"--{'device' if device else 'minutes'}: is for a folder of pictures; {source} is a recipe"
        )
    else:
        text = api.prepare.full_text(source) if full else shipped.path(source).read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UserError(f"{path}: exists already; choose another name") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    if as_json:
        print_json({"file": str(path), **(look.to_dict() if look else {"name": path.stem})})
        return
    say(*(look.lines if look else ()), f"{path}: edit it, then: safelight train {path}")


@app.command(
    epilog=examples(
        "safelight check my.toml data.path=photos/",
        "safelight check digits fashion skylines-small --on local:2",
    )
)
def check(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE|KEY=VALUE",
            help="Shipped recipes, or .toml files, and recipe keys to change, e.g. optim.lr=1e-4.",
        ),
    ],
    fast: Annotated[
        bool, typer.Option("--fast", help="Run only the checks that `safelight train` begins with.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Repeat checks whose results are stored from an earlier time.")
    ] = False,
    on: OnOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a recipe, its data and its networks for silent faults.

    The exit code is 1 if there is an error.
    """
    recipes, changes = [word for word in words if "=" not in word], [word for word in words if "=" in word]
    if not recipes:
        raise UserError("check: name a recipe, for example: safelight check digits")
    checked: dict[str, Checked] = {}
    with bar() as (tell, progress):
        options: dict[str, Any] = {"fast": fast, "again": again, "runs": runs, "progress": progress}
        if on or len(recipes) > 1:
            checked |= api.prepare.check_all(recipes, changes_of(changes), on=on, **options)
        else:
            checked[recipes[0]] = sl.check(recipes[0], changes_of(changes), tell=tell, **options)
    results = [{"recipe": Path(recipe).stem, **checked[recipe].to_dict()} for recipe in recipes if as_json]
    if as_json:
        print_json(results if len(recipes) > 1 else results[0])
    else:
        for recipe in recipes:
            print_checked(Path(recipe).stem, checked[recipe])
    if any(result.errors for result in checked.values()):
        raise typer.Exit(1)


def print_checked(recipe: str, checked: Checked) -> None:
    """Every finding: what was measured, why it matters, how to fix it."""
    from rich.text import Text

    out = console(soft_wrap=True)

    def line(name: str, words: str) -> None:
        out.print(f"  {name + ':':<10}{words}")

    for finding in checked.findings:
        title = Text.assemble(
            (finding.severity, COLOURS[finding.severity]), " ", (plain(finding.code), "bold")
        )
        out.print(title, end="")
        out.print("  (declared)" if finding.declared else "", style="dim")
        line("measured", finding.measured)
        line("expected", finding.expected)
        line("why", finding.why)
        line("declared", finding.declared) if finding.declared else line("fix", finding.fix)
        line("more", page(finding.code))
    for name, reason in checked.skipped.items():
        out.print(f"skipped: {name}, {reason}", style="dim")
    out.print(f"{recipe}: {len(checked.checks)} checks in {checked.seconds:.1f} s: {checked.summary}")


@app.command(epilog=examples('safelight plan skin --like "A100 80GB"'))
def plan(
    recipe: RecipeArgument,
    changes: ChangesArgument = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="NAME", help="Device to measure on, e.g. cuda:0. Default: the recipe's."
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="NAME",
            help='Accelerator to estimate for, e.g. "A100 80GB". Default: the device it measures on.',
        ),
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate parameters, operations, memory, hours and disk of a training.

    A few steps are measured; nothing is kept.
    """
    settings = changes_of(changes) | ({"train.device": device} if device else {})
    with bar() as (tell, progress):
        planned = sl.plan(recipe, settings, like=like, runs=runs, tell=tell, progress=progress)
    if as_json:
        print_json(planned.to_dict())
    else:
        print_plan(planned)


def print_plan(planned: Planned) -> None:
    """The plan in words."""
    from safelight.render.wording import duration

    rows = planned.batch_size // planned.accumulate
    seconds = planned.cost.seconds
    execution = planned.execution
    say(f"{planned.recipe} on {planned.device}, {execution.words}")
    for name, count in planned.parameters.items():
        say(f"  {name:<14}{count:,} parameters")
    say(f"  a step        {planned.batch_size} images in {planned.accumulate} part(s), "
        f"{planned.operations / 1e9:,.1f} GFLOP")  # fmt: skip
    kimg = duration(seconds / planned.batch_size * 1000)
    say(f"  time          {seconds:.3g} s a step, {kimg} a kimg ({planned.cost_how})")
    say(f"  the run       {planned.steps:,} steps: {duration(planned.hours * 3600)}")
    if ends := planned.ends:
        say(f"  held out      mean {ends.text} at the end, by {ends.runs} finished runs")
    say("  memory by images at once")
    for row in planned.memory:
        mark = "   the recipe's" if row.rows == rows else ""
        say(f"    {row.rows:>8,}  {size.words(row.bytes):>8}  {row.how}{mark}")
    parts = f"train.accumulate={planned.suggested}" if planned.suggested else "not even one image"
    say(f"  fits          {planned.fits:,} images at once in {size.words(planned.available)}: {parts}")
    say(f"  disk          {planned.disk.text}")
    for note in planned.notes:
        say(f"note: {note}")


@app.command(
    epilog=examples("safelight explain mode-collapse", "safelight explain optim.lr", "safelight explain FID")
)
def explain(
    code: Annotated[
        str | None,
        typer.Argument(metavar="CODE", help="Code, metric or recipe key. Default: list the codes."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a finding, a verdict, a metric, an error or a key of a recipe."""
    from safelight import explain as explanations

    if code is None:
        listed = explanations.codes()
        if as_json:
            print_json(listed)
        for kind, names in {} if as_json else listed.items():
            say(f"{kind}:", *(f"  {name}" for name in names))
        return
    shown = explanations.explain(code)
    if as_json:
        print_json([vars(explanation) for explanation in shown])
        return
    for explanation in shown:
        say(f"{explanation.code}  ({explanation.kind})")
        say(*(f"  {title + ':':<12}{text}" for title, text in explanation.texts.items()))
        say(f"  {'More:':<12}{explanation.page}")
