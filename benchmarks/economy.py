"""What it takes to be able to film a training: everything saved at every step, or a tape and a live film.

    python benchmarks/economy.py [steps] [key=value ...]

Trains skylines-small twice, equally. Once as system 3 was trained: after every step both models are saved
whole and a sheet of nine fixed samples is drawn. Once as safelight does it: checkpoints within a budget, a
tape of every tenth step for films of any latent, and one latent filmed live at every step. The files of the
first way are counted and let go, as they would fill the disk. Start-up and report are not timed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from safelight.config import parse_override
from safelight.engine import precision
from safelight.engine.distributed import World
from safelight.engine.loop import Job, Signals, train
from safelight.explore.samples import draw_sheet
from safelight.loading.model import evaluated
from safelight.loading.prepare import prepare
from safelight.loading.probe import choose_execution
from safelight.recipe import Recipe, load
from safelight.store.directory import RunDirectory
from safelight.store.listing import by_kind
from safelight.training.progress import Show
from safelight.training.start import begin
from safelight.training.watch import watched_conditions, watched_images

STEPS = 300
NINE = {"watch.images": 9, "watch.every": 1_000_000}
CHEAP = {"tape.every": 10, "watch.film": ["0.3"], "watch.film_every": 1, "checkpoint.every": 100}
GOALS = {"a film of any latent": 100, "a film of a watched one": 1000, "time": 3}


@dataclass(frozen=True)
class Cost:
    """Of one way: bytes by kind, and seconds between the first step and the last."""

    bytes: dict[str, int]
    wall: float
    processor: float


class Clock:
    """Seconds of wall and processor time since it was started."""

    def start(self) -> None:
        self.wall, self.processor = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.wall, self.processor = time.perf_counter() - self.wall, time.process_time() - self.processor


def saving_all(recipe: Recipe, folder: Path) -> Cost:
    """Both models and a sheet at every step, as they come."""
    ready = prepare(recipe, World())
    execution = choose_execution(ready)
    autocast = precision.autocast(ready.device, execution.precision)
    state = ready.state(execution.memory_format)
    conditions = watched_conditions(recipe, ready.stream)
    taken = {"models": 0, "sheets": 0}

    def boundary(signals: Signals) -> None:
        files = [folder / f"{name}-{state.step}.pt" for name in state.nets]
        for path, net in zip(files, state.nets.values(), strict=True):
            torch.save(net.state_dict(), path)
        sheet = folder / f"{state.step}.png"
        nets = evaluated(ready.method, state)
        model = ready.model(RunDirectory(folder), recipe, nets, state.step, execution.precision)
        images = watched_images(model, conditions)
        draw_sheet(images, ready.stream.spec, f"step {state.step}", sheet)
        taken["models"] += sum(path.stat().st_size for path in files)
        taken["sheets"] += sheet.stat().st_size
        for path in (*files, sheet):
            path.unlink()

    plan = ready.plan
    job = Job(ready.method, state, ready.stream, lambda step: plan, lambda record: None, boundary,
              autocast=autocast, device=ready.device)  # fmt: skip
    clock = Clock()
    clock.start()
    train(job)
    clock.stop()
    return Cost(taken, clock.wall, clock.processor)


def economical(recipe: Recipe, folder: Path) -> Cost:
    """Checkpoints, tape and live film, by the commands' own way."""
    clock = Clock()
    show = Show(begin=lambda step, steps, batch_size: clock.start(), end=clock.stop)
    run = begin(recipe, folder, "economical", World(), show)
    return Cost(by_kind(run.path), clock.wall, clock.processor)


def row_of(all_of_it: Cost, cheap: Cost, steps: int) -> str:
    """The table, and how the goals were met."""
    saved = sum(all_of_it.bytes.values())
    film, tape = cheap.bytes["films"], cheap.bytes["tape"]
    lines = [
        "| | saved at every step | tape and live film | ratio |",
        "|---|---:|---:|---:|",
        f"| for a film of any latent, bytes a step | {saved / steps:,.0f} | {tape / steps:,.0f} | "
        f"{saved / tape:,.0f} |",
        f"| for a film of a watched one, bytes a step | {saved / steps:,.0f} | {film / steps:,.0f} | "
        f"{saved / film:,.0f} |",
        f"| processor seconds a step | {all_of_it.processor / steps:.3f} | {cheap.processor / steps:.3f} | "
        f"{all_of_it.processor / cheap.processor:.2f} |",
        f"| wall seconds a step | {all_of_it.wall / steps:.3f} | {cheap.wall / steps:.3f} | "
        f"{all_of_it.wall / cheap.wall:.2f} |",
        "",
        f"goals: {', '.join(f'{name} {goal}' for name, goal in GOALS.items())}",
        f"bytes by kind, saved at every step: {all_of_it.bytes}",
        f"bytes by kind, tape and live film: {cheap.bytes}",
    ]
    return "\n".join(lines)


def main() -> None:
    """Train both ways and print the table."""
    words = sys.argv[1:]
    steps = int(words.pop(0)) if words and words[0].isdigit() else STEPS
    recipe = load("skylines-small", {"train.steps": steps, **NINE, **dict(map(parse_override, words))})
    print(f"{recipe.name}, {steps} steps, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as folder:
        all_of_it = saving_all(recipe, Path(folder))
        cheap = economical(recipe.with_changes(CHEAP), Path(folder))
    print(row_of(all_of_it, cheap, steps))


if __name__ == "__main__":
    main()
