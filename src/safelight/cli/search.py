"""safelight search: the latents of a trained run for what scores best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
from safelight.terminal import console, say, table


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            'safelight search t1 --prompt "red apple" --population 32 --generations 20',
            'safelight search t1 --prompt "red apple" --objective pick --picked 1.3,1.7',
            'safelight search t1 --prompt "red apple" --budget 1600 --split 16x100,32x50,100x16',
        )
    )(search)


def search(
    run: RunArgument,
    changes: ChangesArgument = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", help="What it is to show: the text of samples, and of the objective."),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            metavar="NAME,...",
            help="text, realism, reference=IMAGE, FILE.py:FUNCTION; of several, the front. pick: you judge.",
        ),
    ] = "text",
    method: Annotated[
        str,
        typer.Option(
            "--method", metavar="NAME", help="random, cma, ga, gradient; auto takes the best for it."
        ),
    ] = "auto",
    population: Annotated[
        int | None, typer.Option("--population", help="Candidates a generation; else 100.")
    ] = None,
    generations: Annotated[int | None, typer.Option("--generations", help="How many; else 100.")] = None,
    budget: Annotated[int | None, typer.Option("--budget", help="Evaluations in all, at most.")] = None,
    picked: Annotated[
        str | None,
        typer.Option(
            "--picked", metavar="SHEET.NUMBER,...", help="Of --objective pick: what you like, or 1.none."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="PxG,...", help="The budget in several splits, compared by seed."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Of each split.")] = 3,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--condition", metavar="NAME=VALUE", help="As of safelight sample: label=3, mask=FILE.png."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="NAME",
            help="What judges: reader, own, run:NAME, a CLIP's path or Hub id; else what trained nothing.",
        ),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many of the best become specimens.")] = 4,
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="Of the weights; else the newest checkpoint's.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same search.")] = 0,
    name: Annotated[str | None, typer.Option("--name", help="Of the search; else by the prompt.")] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search the latents of a run that stays as it is. Cut off, the same command goes on."""
    from safelight.cli.bar import bar
    from safelight.config import UserError
    from safelight.explore.search.picking import pick
    from safelight.explore.search.run import run_search
    from safelight.explore.search.settings import Wish
    from safelight.explore.search.split import read_split, run_split
    from safelight.store.directory import find, runs_directory

    wish = Wish(
        objectives=tuple(part.strip() for part in objective.split(",")),
        prompt=prompt,
        method=method,
        population=population,
        generations=generations,
        budget=budget,
        conditions=tuple(condition or ()),
        encoder=encoder,
        sample=sample_changes(changes),
        keep=keep,
        step=step,
        seed=seed,
        name=name,
    )
    picks = "pick" in wish.objectives
    if picked and not picks:
        raise UserError("--picked: only with --objective pick")
    directory = find(run, runs_directory(runs))
    with bar() as (tell, progress):
        if split:
            result = run_split(directory, wish, read_split(split, budget), seeds, tell, progress)
        elif picks:
            result = pick(directory, wish, picked, tell, progress)
        else:
            result = run_search(directory, wish, tell, progress)
    if as_json:
        print_json(result)
    else:
        (print_split if split else print_picks if picks else print_result)(result)


def print_result(result: dict[str, Any]) -> None:
    """The best, beside what samples score, and where it is."""
    from safelight.render.wording import number

    usual = result["usual"]
    say(
        f"{result['name']}: {number(result['score'])} after {result['evaluations']:,} evaluations by "
        f"{result['method']}; {usual['n']} samples: {number(usual['mean'])}, at best {number(usual['best'])}"
    )
    for title, own in result["objectives"].items():
        say(f"  {title + ':':<10} {number(own['best'])}, samples {number(own['usual'])} ± "
              f"{number(own['usual deviation'])}; {own['told']}")  # fmt: skip
    if "front" in result:
        say(f"  front:     {len(result['front'])} that no other beats in all")
    say("  specimens of the run, for film, walk and traverse:")
    say(*(f"    {own}" for own in result["specimens"]))
    for path in result["files"].values():
        say(Path(path))


def print_picks(result: dict[str, Any]) -> None:
    """Where the sheet is, and how to go on."""
    from safelight.render.wording import plural

    say(f"{result['name']}: sheet {result['sheet']}, {plural(len(result['specimens']), 'pick')} so far")
    for path in result["files"].values():
        say(Path(path))
    say(f"the same command with --picked {result['sheet']}.NUMBER,... goes on; "
          f"{result['sheet']}.none where none is good")  # fmt: skip


def print_split(result: dict[str, Any]) -> None:
    """A row for each split."""
    from safelight.render.wording import number

    titles, rows = ("population", "generations", "evaluations", "best", "deviation over seeds"), []
    for row in result["rows"]:
        spread = "" if row["spread"] is None else number(row["spread"])
        rows.append([*(f"{row[key]:,}" for key in titles[:3]), number(row["best"]), spread])
    say(f"{result['name']}: by {result['method']}, {len(row['by seed'])} seeds")
    console().print(table(titles, rows, titles))
    say(Path(result["files"]["curve"]))
