"""safelight specimens: samples that can be named, on a contact sheet or in a run's collection."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.options import (
    ChangesArgument,
    JsonOption,
    RunArgument,
    RunsOption,
    examples,
    print_json,
    sample_changes,
)
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "safelight specimens digits-1 --step 500 -n 30 --out sheet.png",
            "safelight specimens digits-1 --keep 500.28",
        )
    )(specimens)


def specimens(
    run: RunArgument,
    changes: ChangesArgument = None,
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="Of the weights; else the newest checkpoint's.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("-n", "--n", min=1, help="How many on a sheet; else 30.")
    ] = None,
    first: Annotated[int, typer.Option("--first", min=0, help="Draw with which the sheet begins.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="The sheet, sheet.png; else RUN-STEP.png.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="ID", help="Add to the collection, such as 16500.28."),
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a sheet of named samples, keep those you like, or list what is kept."""
    from safelight.cli.bar import bar
    from safelight.config import UserError
    from safelight.explore import collection as session
    from safelight.store.directory import find, runs_directory

    directory = find(run, runs_directory(runs))
    how = sample_changes(changes)
    sheet = not keep and (step is not None or count is not None or out is not None or bool(how))
    if out is not None and out.suffix != ".png":
        raise UserError(f"{out}: a sheet of specimens is a .png")
    with bar() as (tell, _):
        if keep:
            session.keep_specimens(directory, keep, tell)
        if sheet:
            chosen = step if step is not None else session.newest(directory)
            path = out or Path(f"{directory.name}-{chosen}.png")
            ids, reached = session.contact_sheet(directory, path, chosen, count or 30, first, how, tell)
    if sheet:
        facts = {"out": str(path), "step": reached.step, "ids": ids, "source": reached.source,
                 "verdict": reached.verdict.verdict}  # fmt: skip
        print_json(facts) if as_json else say(path)
        return
    kept = session.collection(directory)
    if as_json:
        print_json([{**asdict(one), "picture": str(session.picture(directory, one.id))} for one in kept])
        return
    for one in kept:
        say(f"{one.id:>14}  {one.kept[:19]}  {one.verdict}  {session.picture(directory, one.id)}")
    if not kept:
        say(f"nothing kept yet; draw a sheet with: safelight specimens {directory.name} -n 30")
