"""safelight sample: images from a run, as a sheet, a folder of PNGs, or arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.options import (
    ChangesArgument,
    EmaLengthOption,
    JsonOption,
    RunArgument,
    RunsOption,
    examples,
    print_json,
    sample_changes,
    step_of,
)
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "safelight sample digits-1 --n 64 --condition label=3 --guidance 3 --out sheet.png",
            "safelight sample skin-small-1 --mask mask.png --n 4 --out four.png",
        )
    )(sample)


def sample(
    run: RunArgument,
    changes: ChangesArgument = None,
    count: Annotated[int, typer.Option("--n", min=1, help="How many images.")] = 64,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--condition",
            metavar="NAME=VALUE",
            help="label=3, label=each, hair=0.5, mask=FILE.png, text=WORDS, label=none.",
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option("--mask", metavar="FILE|FOLDER", help="As --condition mask=...; a folder of several."),
    ] = None,
    canvas: Annotated[
        str | None,
        typer.Option("--canvas", metavar="HxW", help="Larger than trained on, in blended tiles: 512x1024."),
    ] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="As sample.sampler=...")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="As sample.steps=...")] = None,
    guidance: Annotated[float | None, typer.Option("--guidance", help="As sample.guidance=...")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same images.")] = 0,
    step: Annotated[
        str | None,
        typer.Option("--step", metavar="STEP", help="Any, recomputed without a checkpoint; or best."),
    ] = None,
    ema_length: EmaLengthOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="sheet.png, arrays.npz, or a folder of PNGs; else RUN.png")
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw samples from a run."""
    flags = {"sampler": sampler, "steps": steps, "guidance": guidance}
    stated = {f"sample.{name}": value for name, value in flags.items() if value is not None}
    from safelight.cli.progress import TrainingProgress
    from safelight.explore.samples import require_place
    from safelight.loading.recorded import recipe_of, spec_of
    from safelight.samplers.generate import require_known
    from safelight.store.directory import find, runs_directory

    overrides = {**sample_changes(changes), **stated}
    wanted = dict(text.partition("=")[::2] for text in condition or [])
    if mask is not None:
        wanted["mask"] = mask
    directory = find(run, runs_directory(runs))
    place = out or Path(f"{directory.name}.png")
    require_place(place)
    recipe = recipe_of(directory).with_changes(overrides)  # told before networks are read
    require_known(spec_of(directory), wanted, recipe.data.attribute_range)
    from safelight.run import Run

    show = TrainingProgress().show(log=False)
    opened = Run.open(
        directory.path,
        directory.path.parent,
        step_of(step),
        ema_length,
        recompute=True,
        tell=show.tell,
        warn=show.warn,
    )
    if not opened.verdict.sure:
        why = "; ".join([opened.verdict.verdict, *opened.verdict.why])
        say(f"step {opened.step}: {why}", err=True)
    samples = opened.sample(count, seed=seed, asked=wanted, how=overrides, canvas=size_of(canvas))
    path = samples.save(place)
    if as_json:
        print_json({"out": str(path), "n": count, "step": opened.step, "verdict": opened.verdict.verdict,
                    "seed": seed, "sample": samples.how})  # fmt: skip
    else:
        say(f"{path} (step {opened.step:,})")


def size_of(text: str | None) -> tuple[int, int] | None:
    """(height, width) of "512x1024". Raises UserError."""
    if text is None:
        return None
    from safelight.config import UserError

    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UserError(f"--canvas {text}: expected height x width in pixels, such as 512x1024")
    return int(height), int(width)
