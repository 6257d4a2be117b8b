"""A run in other tools while it trains: `python -m safelight.export.live RUN SESSION TOOL...`.

A process of its own, which reads the metrics and sheets that the run has written, so that it can neither slow
nor break the training. It ends when its standard input does, after one more look.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.export.metrics import tensorboard_image
from safelight.store import metrics
from safelight.store.directory import RunDirectory

INTERVAL = 2.0  # seconds between two looks
FOLDER = "logs"
PROJECT = "safelight"


@dataclass(frozen=True)
class Tool:
    """Where a run is shown. Steps are counted from 0 for scalars; a picture has the steps behind it."""

    scalars: Callable[[int, Mapping[str, float]], object]
    picture: Callable[[int, Path], object]
    close: Callable[[], object]


def tensorboard(run: RunDirectory) -> Tool:
    """Event files in logs/tensorboard of the run."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(run.path / FOLDER / "tensorboard"))

    def write(step: int, values: list[Any]) -> None:
        writer.add_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))

    def picture(step: int, path: Path) -> None:
        image = tensorboard_image(Summary.Image, path.read_bytes())
        write(step, [Summary.Value(tag="samples", image=image)])

    return Tool(
        lambda step, row: write(step, [Summary.Value(tag=k, simple_value=v) for k, v in row.items()]),
        picture,
        writer.close,
    )


def wandb(run: RunDirectory) -> Tool:
    """A run of Weights & Biases, offline unless $WANDB_MODE says otherwise; a resumed run goes on in it."""
    import wandb as tool

    folder, mode = str(run.path / FOLDER), os.environ.get("WANDB_MODE", "offline")
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    opened = tool.init(
        project=project, id=run.info().id, name=run.name, dir=folder, mode=mode, resume="allow"
    )
    opened.define_metric("*", step_metric="step")  # pictures come later than the scalars of their step
    return Tool(
        lambda step, row: opened.log({"step": step, **row}),
        lambda step, path: opened.log({"step": step, "samples": tool.Image(str(path))}),
        opened.finish,
    )


def trackio(run: RunDirectory) -> Tool:
    """A run of trackio; a resumed run goes on in it. Its name is what trackio knows a run by."""
    import trackio as tool

    name = f"{run.name}-{run.info().id[:6]}"  # another run of that name is another there
    tool.init(project=os.environ.get("TRACKIO_PROJECT", PROJECT), name=name, resume="allow")
    return Tool(
        lambda step, row: tool.log(dict(row), step=step),
        lambda step, path: tool.log({"samples": tool.Image(str(path))}, step=step),
        tool.finish,
    )


def mlflow(run: RunDirectory) -> Tool:
    """A run of MLflow, in $MLFLOW_TRACKING_URI or logs/mlflow.db; a resumed run goes on in it."""
    import mlflow as tool

    folder, experiment = (run.path / FOLDER).resolve(), os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        tool.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        if (
            tool.get_experiment_by_name(experiment) is None
        ):  # by default pictures went where the run was begun
            tool.create_experiment(experiment, artifact_location=(folder / "mlflow-files").as_uri())
    tool.set_experiment(experiment)
    known = folder / "mlflow-run"
    before = known.read_text() if known.exists() else None
    opened = tool.start_run(run_id=before, run_name=None if before else run.name)
    known.write_text(opened.info.run_id)

    def plain(name: str) -> str:
        return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)

    return Tool(
        lambda step, row: tool.log_metrics({plain(name): value for name, value in row.items()}, step=step),
        lambda step, path: tool.log_artifact(str(path), "samples"),
        tool.end_run,
    )


TOOLS = {"tensorboard": tensorboard, "wandb": wandb, "trackio": trackio, "mlflow": mlflow}


def rows(path: Path) -> Iterator[list[tuple[int, dict[str, float]]]]:
    """What was added to a file of metrics since the last look, over and over."""
    rest, offset = b"", 0
    while True:
        with suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(offset)
            data = file.read()
            offset += len(data)
            *lines, rest = (rest + data).split(b"\n")
            read = [line for text in lines if (line := metrics.parse_line(text, checked=True))]
            yield [(int(line["step"]), _scalars(line)) for line in read]
            continue
        yield []


def _scalars(line: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: metrics.number(value) for name, value in line.items() if name not in ("step", "fingerprint")
    }


def follow(run: RunDirectory, session: int, names: list[str], ended: Callable[[float], bool]) -> None:
    """Show a session in tools until it has ended. ended: waits so many seconds, and says whether it has."""
    (run.path / FOLDER).mkdir(exist_ok=True)
    tools = [TOOLS[name](run) for name in names]
    path = run.path / f"metrics-{session:04d}.jsonl"
    start = metrics.header(path)[1] or 0
    known = {sheet for sheet in run.sheets.glob("*.png") if int(sheet.stem) <= start and start}
    last = False
    for new in rows(path):
        sheets = sorted({sheet for sheet in run.sheets.glob("*.png") if sheet.stem.isdecimal()} - known)
        known |= set(sheets)
        for tool in tools:
            for step, values in new:
                tool.scalars(step, values)
            for sheet in sheets:
                tool.picture(int(sheet.stem), sheet)
        if last:
            break
        last = ended(INTERVAL)
    for tool in tools:
        tool.close()


def _input_ended(seconds: float) -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)


def main() -> None:
    with suppress(OSError, AttributeError):
        os.nice(10)
    run, session, *names = sys.argv[1:]
    follow(RunDirectory(Path(run)), int(session), names, _input_ended)


if __name__ == "__main__":
    main()
