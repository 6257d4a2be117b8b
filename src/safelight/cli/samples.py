"""safelight sample, specimens."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import safelight as sl
from safelight import api
from safelight.cli.options import (
    INTERRUPTED,
    AnyStepOption,
    ConditionOption,
    EmaLengthOption,
    JsonOption,
    RawOption,
    RunArgument,
    RunsOption,
    SampleChangesArgument,
    conditions_of,
    examples,
    print_json,
    sample_changes,
    step_of,
)
from safelight.config import UserError
from safelight.store.directory import find, runs_directory
from safelight.terminal import bar, messages, say

app = typer.Typer()


@app.command(
    epilog=examples(
        "safelight sample digits-1 --n 64 --condition label=3 --guidance 3 --out sheet.png",
        "safelight sample skin-small-1 --mask mask.png --n 4 --out four.png",
        "safelight sample digits-1 --count 50000 --out samples.tar",
    )
)
def sample(
    run: RunArgument,
    changes: SampleChangesArgument = None,
    count: Annotated[int, typer.Option("-n", "--n", "--count", min=1, help="Number of images.")] = 64,
    condition: ConditionOption = None,
    mask: Annotated[
        str | None,
        typer.Option(
            "--mask",
            metavar="FILE|FOLDER",
            help="Mask to follow, or a folder of masks. Default: masks of held-out images.",
        ),
    ] = None,
    canvas: Annotated[
        str | None,
        typer.Option(
            "--canvas",
            metavar="HxW",
            help="Image size, e.g. 512x1024, in blended tiles. Default: the size of the training images.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="HxW",
            help="Image size in one piece: a bucket, or any size of a fully convolutional network. Default: "
            "the size of the training images, or of the most populated bucket.",
        ),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="Sampler. Default: sample.sampler of the recipe.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Sampling steps. Default: sample.steps of the recipe."),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option("--guidance", help="Guidance strength. Default: sample.guidance of the recipe."),
    ] = None,
    guide_by: Annotated[
        str | None,
        typer.Option(
            "--guide-by",
            metavar="RUN[@STEP]",
            help="Weaker run, or @STEP of this one, that --guidance leads away from (autoguidance). Default: "
            "samples without conditions.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Random seed for the samples. Default: 0."),
    ] = None,
    same_noise_as: Annotated[
        str | None,
        typer.Option(
            "--same-noise-as",
            metavar="RUN",
            help="Run whose sheets have the noises to start from, in place of --seed. Default: none.",
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(
            "--step",
            metavar="STEP",
            help="Any step (recomputed if needed), or checkpoint name, e.g. best. Default: newest.",
        ),
    ] = None,
    ema_length: EmaLengthOption = None,
    raw: RawOption = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Output: sheet.png, arrays.npz, or, written as they are drawn, a folder or samples.tar. "
            "Default: RUN.png.",
        ),
    ] = None,
    chunk: Annotated[
        int | None,
        typer.Option(
            "--chunk",
            min=1,
            help="Images drawn at once into a folder or .tar. Default: what the memory holds, 250 at most.",
        ),
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Generate samples from a run.

    Any number fits into a folder or a .tar, which has the names of WebDataset. Rerun the command to continue.
    """
    flags = {"sampler": sampler, "steps": steps, "guidance": guidance, "guide_by": guide_by}
    stated = {f"sample.{name}": value for name, value in flags.items() if value is not None}
    overrides = {**sample_changes(changes, run, runs), **stated}
    conditions = conditions_of(condition) | ({"mask": mask} if mask is not None else {})
    whole, tiled, directory = _size(size, "size"), _size(canvas), find(run, runs_directory(runs))
    place = out or Path(f"{directory.name}.png")
    api.samples.require_samples(directory, place, overrides, conditions)  # before networks are read
    if same_noise_as is not None:
        if seed is not None:
            raise UserError("--same-noise-as: has a seed of its own; leave out --seed")
        seed = api.samples.shared_seed(directory, find(same_noise_as, directory.path.parent))
    tell, warn = messages()
    opened = sl.Run.open(
        directory.path,
        directory.path.parent,
        step_of(step),
        ema_length,
        raw=raw,
        recompute=True,
        tell=tell,
        warn=warn,
    )
    if not opened.verdict.sure:
        warn(f"step {opened.step}: {'; '.join([opened.verdict.verdict, *opened.verdict.why])}")
    seed, used = seed or 0, opened.model.changed(overrides).how
    if place.suffix in ("", ".tar") and not tiled:
        try:
            with bar() as (say_now, progress):
                path = opened.save_samples(
                    place, count, chunk=chunk, seed=seed, conditions=conditions, how=overrides,
                    size=whole, tell=say_now, progress=progress,
                )  # fmt: skip
        except KeyboardInterrupt:
            say(f"stopped; the same command goes on with {place}.part", err=True)
            raise typer.Exit(INTERRUPTED) from None
    else:
        samples = opened.sample(
            count, seed=seed, conditions=conditions, how=overrides, canvas=tiled, size=whole
        )
        path = samples.save(place)
    if as_json:
        print_json({"out": str(path), "n": count, "step": opened.step, "verdict": opened.verdict.verdict,
                    "seed": seed, "sample": used.model_dump()})  # fmt: skip
    else:
        say(f"{path} (step {opened.step:,})")


def _size(text: str | None, name: str = "canvas") -> tuple[int, int] | None:
    """(height, width) of "512x1024". Raises UserError."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise UserError(f"--{name} {text}: expected height x width in pixels, such as 512x1024")
    return int(height), int(width)


@app.command(
    epilog=examples(
        "safelight specimens digits-1 --step 500 -n 30 --out sheet.png",
        "safelight specimens digits-1 --keep 500.28",
    )
)
def specimens(
    run: RunArgument,
    changes: SampleChangesArgument = None,
    step: AnyStepOption = None,
    count: Annotated[
        int | None, typer.Option("-n", "--n", min=1, help="Number of samples on the sheet. Default: 30.")
    ] = None,
    first: Annotated[
        int, typer.Option("--first", min=0, help="Number of the first sample on the sheet.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Sheet to write, a .png. Default: RUN-STEP.png.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            metavar="ID",
            help="Sample to add to the run's collection, e.g. 16500.28. Default: none.",
        ),
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a sheet of named samples, keep those you like, or list the kept ones."""
    directory, settings = find(run, runs_directory(runs)), sample_changes(changes, run, runs)
    draws = not keep and (step is not None or count is not None or out is not None or bool(settings))
    with bar() as (tell, _):
        if keep:
            sl.keep(run, keep, runs=runs, tell=tell)
        if draws:
            sheet = sl.specimens(
                run, out, step=step, count=count or 30, first=first, changes=settings, runs=runs, tell=tell
            )
    if draws:
        print_json(sheet) if as_json else say(sheet["out"])
        return
    kept = sl.kept(run, runs=runs)
    if as_json:
        print_json([{**asdict(specimen), "picture": str(picture)} for specimen, picture in kept])
        return
    for specimen, picture in kept:
        say(f"{specimen.id:>14}  {specimen.kept[:19]}  {specimen.verdict}  {picture}")
    if not kept:
        say(f"nothing kept yet; draw a sheet with: safelight specimens {directory.name} -n 30")
