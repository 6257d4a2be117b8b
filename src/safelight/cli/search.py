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


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples('safelight search t1 --prompt "red apple" --population 32 --generations 20'))(
        search
    )


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
            help="text, realism, reference=IMAGE, FILE.py:FUNCTION; of several, the front.",
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
    from safelight.session.search.run import run_search
    from safelight.session.search.wish import Wish
    from safelight.store.run import find, runs_directory

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
    directory = find(run, runs_directory(runs))
    with bar() as (tell, progress):
        result = run_search(directory, wish, tell, progress)
    print_json(result) if as_json else print_result(result)


def print_result(result: dict[str, Any]) -> None:
    """The best, beside what samples score, and where it is."""
    from safelight.render.wording import number

    usual = result["usual"]
    print(
        f"{result['name']}: {number(result['score'])} after {result['evaluations']:,} evaluations by "
        f"{result['method']}; {usual['n']} samples: {number(usual['mean'])}, at best {number(usual['best'])}"
    )
    for title, own in result["objectives"].items():
        print(f"  {title + ':':<10} {number(own['best'])}, samples {number(own['usual'])} ± "
              f"{number(own['usual deviation'])}; {own['told']}")  # fmt: skip
    if "front" in result:
        print(f"  front:     {len(result['front'])} that no other beats in all")
    print("  specimens of the run, for film, walk and traverse:", *result["specimens"], sep="\n    ")
    for path in result["files"].values():
        print(Path(path))
