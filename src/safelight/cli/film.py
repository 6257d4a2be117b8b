"""safelight film: specimens through training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli.options import JsonOption, RunArgument, RunsOption, examples, print_json
from safelight.terminal import say

if TYPE_CHECKING:
    from safelight.explore.film import Film, Making

IdsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="SPECIMEN...", help="Ids such as 16500.28; else those filmed live."),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help=".mp4, .webp, .gif, or a folder of PNGs; else RUN.mp4.")
]
FpsOption = Annotated[float, typer.Option("--fps", min=0.1, max=240, help="Frames a second.")]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Processes that take pictures.")]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="sample.KEY=VALUE", help="Sampling other than the recipe's."),
]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight film digits-1 500.28 500.3 --to 500 --out film.mp4"))(film)


def film(
    run: RunArgument,
    ids: IdsArgument = None,
    begin: Annotated[int, typer.Option("--from", min=0, help="First step.")] = 0,
    end: Annotated[int | None, typer.Option("--to", min=0, help="Last step; else the last recorded.")] = None,
    every: Annotated[
        int | None,
        typer.Option(
            "--every", min=1, help="Steps from frame to frame; else as filmed live or taped, else 1."
        ),
    ] = None,
    fps: FpsOption = 30.0,
    out: OutOption = None,
    words: Annotated[bool, typer.Option("--number/--no-number", help="The step in a corner.")] = True,
    settings: SettingsOption = None,
    workers: WorkersOption = 1,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Film samples through training: live frames, tape, checkpoints or replay. Cut off, it goes on."""
    from safelight.explore.film import through_training
    from safelight.store.directory import find, runs_directory

    directory = find(run, runs_directory(runs))
    with making(out or Path(f"{directory.name}.mp4"), fps, words, settings, workers) as how:
        made = through_training(directory, ids or [], how, begin, end, every)
    print_film(made, as_json)


@contextmanager
def making(out: Path, fps: float, words: bool, settings: list[str] | None, workers: int) -> Iterator[Making]:
    """How a film is made, as the options say; a bar shows how far it is."""
    from safelight.cli.bar import bar
    from safelight.cli.options import sample_changes
    from safelight.explore.film import Making

    with bar() as (tell, progress):
        yield Making(out, fps, words, sample_changes(settings), workers, tell, progress)


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
