"""safelight traverse, search, project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import safelight as sl
from safelight.cli.options import (
    AnyStepOption,
    ConditionOption,
    EmaLengthOption,
    JsonOption,
    OnOption,
    RawOption,
    RunArgument,
    RunsOption,
    SampleChangesArgument,
    SeedOption,
    StepOption,
    conditions_of,
    examples,
    print_json,
    sample_changes,
    step_of,
)
from safelight.config import UserError
from safelight.store.directory import runs_directory
from safelight.terminal import bar, console, messages, say, table

app = typer.Typer()


@app.command(
    epilog=examples(
        "safelight traverse faces-small-1 --attribute hair=0..1 --rows 6 --out grid.png",
        "safelight traverse faces-small-1 --component 1 --out grid.png",
        "safelight traverse t1 --direction pca:1 --direction sefa:1 --out grid.png",
    )
)
def traverse(
    run: RunArgument,
    changes: SampleChangesArgument = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            "--attribute",
            metavar="NAME=A..B",
            help='Slider over a condition: hair=0..1, label=0..9; "male=0..1,female=1..0" moves both. Repeat '
            "the option to combine sliders. Default: none.",
        ),
    ] = None,
    component: Annotated[
        list[int] | None,
        typer.Option(
            "--component",
            help="Principal component of the latents, from 1. Repeat for a row each. Default: none.",
        ),
    ] = None,
    direction: Annotated[
        list[str] | None,
        typer.Option(
            "--direction",
            metavar="KIND:N[=A..B]",
            help="Direction of the generator: pca:1 (GANSpace) or sefa:1 (SeFa), from -3 to 3 deviations, or "
            "from A to B. Repeat for a row each. Default: none.",
        ),
    ] = None,
    specimen: Annotated[
        str | None,
        typer.Option(
            "--specimen", metavar="ID", help="Specimen that directions start from. Default: random latents."
        ),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Number of latents, one in each row.")] = 6,
    columns: Annotated[
        int | None,
        typer.Option("--columns", min=2, help="Places on each slider. Default: 7, or 2 for several sliders."),
    ] = None,
    seed: SeedOption = 0,
    step: StepOption = None,
    ema_length: EmaLengthOption = None,
    raw: RawOption = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Picture to write. Default: RUN-traverse.png.")
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a grid of latents, moved along conditions, components or directions."""
    from safelight.render.sheet import panel
    from safelight.render.sheet_file import save_png

    if sum(map(bool, (attribute, component, direction))) != 1:
        raise UserError(
            "traverse: state --attribute, such as hair=0..1, or --component, such as 1, "
            "or --direction, such as pca:1"
        )
    tell, warn = messages()
    opened = sl.Run.open(run, runs_directory(runs), step_of(step), ema_length, raw=raw, tell=tell, warn=warn)
    made = opened.traverse(
        attribute or [],
        component or [],
        direction or [],
        specimen=specimen,
        rows=rows,
        columns=columns,
        seed=seed,
        how=sample_changes(changes, run, runs),
    )
    path = out or Path(f"{opened.name}-traverse.png")
    save_png(panel(made.images, made.row_labels, made.column_labels, made.caption), path)
    if as_json:
        height, width = made.images.shape[:2]
        print_json({"out": str(path), "step": opened.step, "seed": seed, "rows": height, "columns": width})
    else:
        say(path)


@app.command(
    epilog=examples(
        'safelight search t1 --prompt "red apple" --population 32 --generations 20',
        'safelight search t1 --prompt "red apple" --objective pick --picked 1.3,1.7',
        'safelight search t1 --prompt "red apple" --budget 1600 --split 16x100,32x50,100x16',
    )
)
def search(
    run: RunArgument,
    changes: SampleChangesArgument = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", help="Text that the image should show. Default: none."),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            metavar="NAME,...",
            help="What to score: text, realism, reference=IMAGE, FILE.py:FUNCTION; several give a Pareto "
            "front. pick: you judge the images.",
        ),
    ] = "text",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAME",
            help="Search method: random, cma, ga, gradient; auto chooses by the objective.",
        ),
    ] = "auto",
    population: Annotated[
        int | None, typer.Option("--population", help="Candidates per generation. Default: 100.")
    ] = None,
    generations: Annotated[
        int | None, typer.Option("--generations", help="Number of generations. Default: 100.")
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option("--budget", help="Most evaluations in all. Default: population times generations."),
    ] = None,
    picked: Annotated[
        str | None,
        typer.Option(
            "--picked",
            metavar="SHEET.NUMBER,...",
            help="Images you like, with --objective pick; 1.none for none. Default: draw the first sheet.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="PxG,...",
            help="Population x generations to compare, all of one budget. Default: a single search.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Searches per split, with --split.")] = 3,
    on: OnOption = None,
    condition: ConditionOption = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="NAME",
            help="Encoder that scores images: reader, training (the one the generator was "
            "trained with), run:NAME, or the path or Hub id of a CLIP. "
            "Default: one that the generator was not trained with.",
        ),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Number of best latents kept as specimens.")] = 4,
    step: AnyStepOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed of the search.")] = 0,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the search. Default: derived from the prompt.")
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search for latents that score best. The run is not changed; rerun the command to resume."""
    objectives = [part.strip() for part in objective.split(",")]
    with bar() as (tell, progress):
        result = sl.search(
            run, *objectives, prompt=prompt, picked=picked, split=split, seeds=seeds, on=on,
            changes=sample_changes(changes, run, runs), conditions=conditions_of(condition), method=method,
            population=population, generations=generations, budget=budget, encoder=encoder, keep=keep,
            step=step, seed=seed, name=name, runs=runs, tell=tell, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(result)
    else:
        (print_split if split else print_picks if "pick" in objectives else print_result)(result)


def print_result(result: dict[str, Any]) -> None:
    """The best, next to what samples score, and where it is."""
    from safelight.render.wording import number

    usual = result["usual"]
    say(
        f"{result['name']}: {number(result['score'])} after {result['evaluations']:,} evaluations by "
        f"{result['method']}; {usual['n']} samples: {number(usual['mean'])}, at best {number(usual['best'])}"
    )
    for title, score in result["objectives"].items():
        say(f"  {title + ':':<10} {number(score['best'])}, samples {number(score['usual'])} ± "
            f"{number(score['usual deviation'])}; {score['told']}")  # fmt: skip
    if "front" in result:
        say(f"  front:     {len(result['front'])} that no other beats in all")
    say("  specimens of the run, for film, walk and traverse:")
    say(*(f"    {specimen}" for specimen in result["specimens"]))
    for path in result["files"].values():
        say(Path(path))


def print_picks(result: dict[str, Any]) -> None:
    """Where the sheet is, and how to continue."""
    from safelight.render.wording import plural

    sheet = result["sheet"]
    say(f"{result['name']}: sheet {sheet}, {plural(len(result['specimens']), 'pick')} so far")
    for path in result["files"].values():
        say(Path(path))
    say(f"to continue, add --picked {sheet}.NUMBER,..., or --picked {sheet}.none where none is good")


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


@app.command(epilog=examples("safelight project t1 apple.png --steps 200 --out sheet.png"))
def project(
    run: RunArgument,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="Image to project, resized to the run's images.")
    ],
    changes: SampleChangesArgument = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Adam steps.")] = 200,
    condition: ConditionOption = None,
    step: AnyStepOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Picture to write. Default: RUN-project.png.")
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the latent whose image is closest to a given image, and keep it as a specimen."""
    from safelight.render.wording import number

    with bar() as (tell, progress):
        result = sl.project(
            run, image, out, steps=steps, conditions=conditions_of(condition),
            changes=sample_changes(changes, run, runs), step=step, runs=runs, tell=tell, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(result)
        return
    error = result["pixel mse"]
    say(f"{result['specimen']}: squared error of pixels {number(error['first'])} at first, "
        f"{number(error['last'])} at last")  # fmt: skip
    say(result["out"])
