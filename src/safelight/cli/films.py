"""safelight film, walk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import safelight as sl
from safelight.cli.options import (
    EmaLengthOption,
    JsonOption,
    OnOption,
    RawOption,
    RunArgument,
    RunsOption,
    ThreadsOption,
    examples,
    print_json,
    sample_changes,
)
from safelight.terminal import bar, say

if TYPE_CHECKING:
    from safelight.explore.film import Film

FilmOutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Film to write: .mp4, .webp, .gif, or a folder of PNGs. Default: named after the run."
    ),
]
FpsOption = Annotated[float, typer.Option("--fps", min=0.1, max=240, help="Frames per second.")]
NumberOption = Annotated[bool, typer.Option("--number/--no-number", help="Write the step in a corner.")]

app = typer.Typer()


@app.command(
    epilog=examples(
        "safelight film digits-1 500.28 500.3 --to 500 --out film.mp4",
        "safelight film digits-1 500.28 sample.steps=10",
        "safelight film digits-1 500.28 --every 1 --on local:4",
    )
)
def film(
    run: RunArgument,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPECIMEN|KEY=VALUE",
            help="Specimens, e.g. 16500.28, and sampling keys to change, e.g. sample.steps=20. "
            "Default: the specimens filmed during training.",
        ),
    ] = None,
    begin: Annotated[int, typer.Option("--from", min=0, help="First step.")] = 0,
    end: Annotated[
        int | None, typer.Option("--to", min=0, help="Last step. Default: last recorded step.")
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(
            "--every", min=1, help="Steps between frames. Default: as filmed during training or taped, or 1."
        ),
    ] = None,
    fps: FpsOption = 30.0,
    out: FilmOutOption = None,
    number: NumberOption = True,
    ema_length: EmaLengthOption = None,
    raw: RawOption = False,
    on: OnOption = None,
    threads: ThreadsOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Film samples through training. Rerun the command to continue an interrupted film.

    Frames come from the live film, the tape, checkpoints, or are recomputed.
    """
    ids, settings = _specimens_and_changes(words, run, runs)
    with bar() as (tell, progress):
        made = sl.film(
            run, ids, out, begin=begin, end=end, every=every, fps=fps, number=number, changes=settings,
            ema_length=ema_length, raw=raw, on=on, runs=runs, tell=tell, progress=progress,
        )  # fmt: skip
    print_film(made, as_json)


@app.command(epilog=examples("safelight walk digits-1 500.28 500.3 --frames 120 --out walk.mp4"))
def walk(
    run: RunArgument,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SPECIMEN|KEY=VALUE",
            help="Specimens to visit, e.g. 500.28 500.3, and sampling keys to change, e.g. sample.steps=20.",
        ),
    ],
    frames: Annotated[int, typer.Option("--frames", min=2, help="Number of frames.")] = 120,
    step: Annotated[
        int | None,
        typer.Option("--step", min=0, help="Step of the weights. Default: the step of each specimen."),
    ] = None,
    fps: FpsOption = 30.0,
    out: FilmOutOption = None,
    number: NumberOption = True,
    ema_length: EmaLengthOption = None,
    raw: RawOption = False,
    on: OnOption = None,
    threads: ThreadsOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Film a walk from sample to sample, on the sphere of latents."""
    ids, settings = _specimens_and_changes(words, run, runs)
    with bar() as (tell, progress):
        made = sl.walk(
            run, ids, out, frames=frames, step=step, fps=fps, number=number, changes=settings,
            ema_length=ema_length, raw=raw, on=on, runs=runs, tell=tell, progress=progress,
        )  # fmt: skip
    print_film(made, as_json)


def _specimens_and_changes(
    words: list[str] | None, run: str, runs: Path | None
) -> tuple[list[str], dict[str, object]]:
    """Specimens, and keys of [sample], which have a "="; see `sample_changes`."""
    ids = [word for word in words or [] if "=" not in word]
    return ids, sample_changes([word for word in words or [] if "=" in word], run, runs)


def print_film(made: Film, as_json: bool) -> None:
    """Where a film is, and what its frames rest on."""
    sources = made.sources
    if as_json:
        steps = [shot.step for shot in made.shots]
        print_json({"out": str(made.out), "frames": len(steps), "steps": [min(steps), max(steps)],
                    "sources": sources.frames, "verdict": sources.verdict})  # fmt: skip
        return
    words = ", ".join(f"{count:,} from {'the ' * (name != 'replay')}{name}{' film' * (name == 'live')}"
                      for name, count in sources.frames.items())  # fmt: skip
    say(f"{made.out}: {len(made.shots):,} frames ({words}); {sources.verdict}")
