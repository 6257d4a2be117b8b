"""safelight check: faults of a recipe, found before hours are spent on it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli.options import ChangesArgument, JsonOption, RunsOption, changes_of, examples, print_json
from safelight.terminal import console, plain

if TYPE_CHECKING:
    from safelight.checks.bench.finding import Checked


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight check my.toml data.path=photos/"))(check)


def check(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe, or a .toml file.")],
    changes: ChangesArgument = None,
    fast: Annotated[bool, typer.Option("--fast", help="Only what `safelight train` begins with.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Look anew, although the same was looked at before.")
    ] = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for silent faults in a recipe, its data and its networks. Exit code 1 where there is an error."""
    from safelight.cli.bar import bar
    from safelight.engine.distributed import World
    from safelight.engine.plan import too_large
    from safelight.loading.prepare import choose_execution, prepare
    from safelight.recipe import load
    from safelight.store.directory import runs_directory
    from safelight.training.check import check as look
    from safelight.training.forecast import require_memory
    from safelight.training.start import made

    with bar() as (tell, progress):
        resolved = load(recipe, changes_of(changes))
        for line in too_large(resolved.optim):
            tell(line)
        products = made(resolved, runs_directory(runs))
        ready = prepare(resolved, World(), tell, products, progress)
        require_memory(ready.method, ready.stream.spec, ready.device)
        began = time.perf_counter()
        execution = choose_execution(ready, tell)
        probed = time.perf_counter() - began
        checked = look(ready, execution, fast, again, progress)
        checked = replace(checked, seconds=checked.seconds + probed)
    if as_json:
        print_json({"recipe": ready.recipe.name, **checked.plain()})
    else:
        print_checked(ready.recipe.name, checked)
    if checked.errors:
        raise typer.Exit(1)


def print_checked(recipe: str, checked: Checked) -> None:
    """Every finding: what was measured, why it matters, how to mend it."""
    from rich.text import Text

    from safelight.checks.bench.finding import page
    from safelight.training.check import said

    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    out = console(soft_wrap=True)

    def line(name: str, words: str) -> None:
        out.print(f"  {name + ':':<10}{words}")

    for one in checked.findings:
        title = Text.assemble((one.severity, colours[one.severity]), " ", (plain(one.code), "bold"))
        out.print(title, end="")
        out.print("  (declared)" if one.declared else "", style="dim")
        line("measured", one.measured)
        line("expected", one.expected)
        line("why", one.why)
        line("declared", one.declared) if one.declared else line("mend", one.mend)
        line("more", page(one.code))
    for name, reason in checked.skipped.items():
        out.print(f"not looked at: {name}, {reason}", style="dim")
    out.print(f"{recipe}: {len(checked.checks)} checks in {checked.seconds:.1f} s: {said(checked)}")
