"""safelight influence, originals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight import api
from safelight.cli.options import (
    JsonOption,
    RunArgument,
    RunsOption,
    SampleChangesArgument,
    SeedOption,
    StepOption,
    examples,
    print_json,
    sample_changes,
    step_of,
)
from safelight.config import UserError
from safelight.terminal import bar, console, say, table

LISTED = 20  # items printed; --json has all

app = typer.Typer()


@app.command(epilog=examples("safelight influence digits-1 500.28 --out causes.png"))
def influence(
    run: RunArgument,
    specimen: Annotated[str, typer.Argument(metavar="STEP.DRAW", help="Name of the sample, e.g. 500.28.")],
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="whitened|tracin",
            help="Score; whitened = what an image adds that others do not, tracin = products of gradients.",
        ),
    ] = "whitened",
    top: Annotated[int, typer.Option("-n", "--top", min=1, help="Number of images listed.")] = 20,
    checkpoints: Annotated[
        int, typer.Option("--checkpoints", min=1, help="Checkpoints that gradients are traced through.")
    ] = 3,
    draws: Annotated[
        int, typer.Option("--draws", min=1, help="Noises that gradients are averaged over.")
    ] = 8,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.png", help="Sheet of the sample and its causes. Default: none."),
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the training images by how far they made a sample.

    One backward pass for each image and checkpoint. To be sure of a cause, train without it: safelight fork
    RUN --step 0 --without ITEM.
    """
    if by not in ("whitened", "tracin"):
        raise UserError(f"--by {by}: is not a valid choice; use whitened or tracin")
    with bar() as (tell, progress):
        result = api.causes.influence(
            run,
            specimen,
            by="tracin" if by == "tracin" else "whitened",
            checkpoints=checkpoints,
            draws=draws,
            runs=runs,
            tell=tell,
            progress=progress,
        )
    if out:
        api.causes.save_sheet(result.sheet(), out)
    facts = result.to_dict(top)
    if as_json:
        print_json({"run": str(run), "sheet": str(out) if out else None, **facts})
        return
    steps = ", ".join(map(str, result.steps))
    say(f"{specimen}: {facts['images']:,} training images, gradients at steps {steps}")
    rows = [(str(each["rank"]), each["item"], f"{each['score']:.2f}") for each in facts["causes"]]
    console(soft_wrap=True).print(table(("rank", "image", "score"), rows, ("rank", "score")))
    say("scores: in standard deviations over all training images; more than 0 makes the sample likelier")
    if out:
        say(f"sheet: {out}")


@app.command(epilog=examples("safelight originals digits-1 --out originals.png"))
def originals(
    run: RunArgument,
    changes: SampleChangesArgument = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Number of samples.")] = 256,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="NAME|PATH|none",
            help="Feature extractor beside pixels, as of evaluate; none = pixels alone. Default: classifier "
            "for data with classes, otherwise efficientnet, or random where that is not installed.",
        ),
    ] = None,
    step: StepOption = None,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.png", help="Sheet of samples and originals. Default: none."),
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the training images that samples are nearest to, and the rate of copies.

    Beside it the rate for held-out images, which nobody copied. Lists the images at risk.
    """
    settings = sample_changes(changes, run, runs)
    with bar() as (tell, progress):
        result = api.causes.originals(
            run, n, features=features, step=step_of(step), seed=seed, changes=settings, runs=runs, tell=tell,
            progress=progress,
        )  # fmt: skip
    if out:
        api.causes.save_sheet(result.sheet(), out)
    if as_json:
        print_json({"run": str(run), "sheet": str(out) if out else None, **result.to_dict()})
        return
    say(f"{n:,} samples at step {result.step:,} against {result.trained:,} training images")
    titles = ("space", "copies", "held-out images", "nearer than 95 % of held-out", "by chance")
    rows = [(name, str(space.copies), str(space.held_out_copies), str(space.nearer),
             "{:.1%} to {:.1%}".format(*space.chance)) for name, space in result.spaces.items()]  # fmt: skip
    console(soft_wrap=True).print(table(titles, rows, titles[1:]))
    say("copies: nearest image within a third of the mean distance to the 50 nearest; intervals are of 95 %")
    for item in result.at_risk[:LISTED]:
        copies = f", {item.copies} of these pixels" if item.copies > 1 else ""
        numbers = ", ".join(map(str, item.samples[:5])) + (", ..." if len(item.samples) > 5 else "")
        say(f"at risk: {item.path or item.name} ({item.space} {item.ratio:.2f}{copies}): sample {numbers}")
    if len(result.at_risk) > LISTED:
        say(f"and {len(result.at_risk) - LISTED} more: --json")
    if out:
        say(f"sheet: {out}")
