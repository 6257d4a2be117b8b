"""safelight originals."""

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
from safelight.terminal import bar, console, say, table

LISTED = 20  # items printed; --json has all

app = typer.Typer()


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
        found = api.causes.originals(
            run, n, features=features, step=step_of(step), seed=seed, changes=settings, runs=runs, tell=tell,
            progress=progress,
        )  # fmt: skip
    if out:
        api.causes.save_sheet(found.sheet(), out)
    if as_json:
        print_json({"run": str(run), "sheet": str(out) if out else None, **found.to_dict()})
        return
    say(f"{n:,} samples at step {found.step:,} against {found.trained:,} training images")
    titles = ("space", "copies", "held-out images", "nearer than 95 % of held-out", "by chance")
    rows = [(name, str(space.copies), str(space.held_out_copies), str(space.nearer),
             "{:.1%} to {:.1%}".format(*space.chance)) for name, space in found.spaces.items()]  # fmt: skip
    console(soft_wrap=True).print(table(titles, rows, titles[1:]))
    say("copies: nearest image within a third of the mean distance to the 50 nearest; intervals are of 95 %")
    for item in found.at_risk[:LISTED]:
        copies = f", {item.copies} of these pixels" if item.copies > 1 else ""
        numbers = ", ".join(map(str, item.samples[:5])) + (", ..." if len(item.samples) > 5 else "")
        say(f"at risk: {item.path or item.name} ({item.space} {item.ratio:.2f}{copies}): sample {numbers}")
    if len(found.at_risk) > LISTED:
        say(f"and {len(found.at_risk) - LISTED} more: --json")
    if out:
        say(f"sheet: {out}")
