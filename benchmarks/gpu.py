"""Everything that only a GPU can show, in one command of less than eight minutes on one card.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --dry-run

In this order: the tests marked cuda; a run that is stopped, resumed and replayed on the card, with a film;
images a second of the engine beside a bare loop over the same losses and networks, on a batch that is on the
device already, compiled and not; the seconds that a checkpoint takes; memory against the plan. What the time
does not allow for is left out and named. Pictures are random, of the recipes' sizes. --dry-run does the same
on the CPU with tiny networks, to see that it runs: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safelight.engine import precision
from safelight.engine.loop import Job, Signals, Stop, train
from safelight.engine.precision import Execution
from safelight.engine.state import State
from safelight.loading.prepare import Prepared
from safelight.planning.plan import plan, ready_for
from safelight.recipe import Recipe, load
from safelight.store import checkpoint, checkpoint_files
from safelight.types import Moment

LIMIT = 460.0  # seconds
BLOCKS, STEPS = 5, 20
Changes = dict[str, Any]
UNCONDITIONAL: Changes = {"data.labels": False}
PICTURES: Changes = {"data.source": "folder", "data.size": 28, "data.channels": 1}
CASES: dict[str, Changes] = {  # recipes whose data can be stood in for
    "fashion": PICTURES | UNCONDITIONAL,
    "fashion-gan": PICTURES | UNCONDITIONAL,
    "skin": {"data.balance": None, "train.accumulate": 1, "train.batch_size": 64},
    "latent-dit": {**UNCONDITIONAL, "train.batch_size": 64},
}
TINY: Changes = {
    "fashion": {"network.width": 8, "train.batch_size": 4},
    "fashion-gan": {"network.generator.widths": [8, 8], "network.discriminator.widths": [8, 8],
                    "train.batch_size": 4},
    "skin": {"network.width": 8, "network.embedding": 16, "data.size": [64, 64], "train.batch_size": 2},
    "latent-dit": {"network.width": 32, "network.depth": 2, "network.heads": 2, "data.size": 64,
                   "train.batch_size": 2},
}  # fmt: skip


@dataclass(frozen=True)
class TorchDraw:
    """Randomness as a bare loop has it: torch's own, on the device."""

    rows: int
    device: torch.device

    def normal(self, name: str, *shape: int) -> Tensor:
        return torch.randn(self.rows, *shape, device=self.device)

    def uniform(self, name: str, *shape: int, host: bool = False) -> Tensor:
        return torch.rand(self.rows, *shape, device="cpu" if host else self.device)

    def integers(self, name: str, high: int, *shape: int) -> Tensor:
        return torch.randint(high, (self.rows, *shape), device=self.device)


def bare_loop(ready: Prepared, execution: Execution) -> Callable[[], None]:
    """A function that trains one step further: the losses, a fused Adam, an average, and nothing else."""
    state, method = made(ready, execution), ready.method
    (batch,) = ready.stream.parts(0)
    autocast = precision.autocast(ready.device, execution.precision)
    weights = ready.plan.weights_at(0)
    fp32 = lambda: torch.autocast(ready.device.type, enabled=False)  # noqa: E731
    adams = {name: torch.optim.AdamW(state.nets[name].parameters(), ready.plan.optim[name].lr, fused=True)
             for name in state.optimisers}  # fmt: skip
    live = [p.detach() for name in method.ema for p in state.nets[name].parameters()]
    average = [p.clone() for p in live]
    count = 0

    def step() -> None:
        nonlocal count
        moment = Moment(
            count, TorchDraw(len(batch.rows), ready.device), state.memory, weights, lambda t: t, fp32
        )
        for phase in method.phases:
            if count % phase.every:
                continue
            for name, net in state.nets.items():
                net.requires_grad_(name in phase.trains)
            with autocast():
                components, _ = phase.losses(state.nets, batch, moment)
            losses = [weights[name] * values.float().mean() for name, values in components.items()]
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            for name in phase.trains:
                adams[name].step()
                adams[name].zero_grad()
        torch._foreach_lerp_(average, live, 1e-3)
        count += 1

    return step


def made(ready: Prepared, execution: Execution) -> State:
    return ready.state(execution.memory_format, compile=execution.compile)


def images_a_second(
    ready: Prepared, execution: Execution, steps: int, blocks: int = BLOCKS
) -> tuple[float, float, State]:
    """Of the engine and of the bare loop, in turn, each the median of blocks; and the engine's state."""
    state, bare = made(ready, execution), bare_loop(ready, execution)
    rows, times = ready.recipe.train.batch_size, (list[float](), list[float]())
    began = 0.0

    def now() -> float:
        if ready.device.type == "cuda":
            torch.cuda.synchronize(ready.device)
        return time.perf_counter()

    def boundary(signals: Signals) -> None:
        nonlocal began
        if state.step % steps:
            return
        times[0].append(now() - began)
        before = now()
        for _ in range(steps):
            bare()
        times[1].append(now() - before)
        if len(times[0]) > blocks:
            raise Stop
        began = now()

    job = Job(
        ready.method, state, ready.stream, lambda step: replace(ready.plan, steps=10**9), lambda record: None,
        boundary, autocast=precision.autocast(ready.device, execution.precision), device=ready.device,
    )  # fmt: skip
    began = now()
    with suppress(Stop):
        train(job)
    engine, loop = (steps * rows / statistics.median(series[1:]) for series in times)
    return engine, loop, state


def speed(name: str, recipe: Recipe, steps: int, backend: str) -> None:
    """A row of the table for a recipe, compiled and not."""
    with tempfile.TemporaryDirectory() as folder:
        ready = ready_for(recipe, Path(folder), [], None)
        half = precision.candidates(ready.device, "auto", "auto")[min(1, ready.device.type == "cuda")]
        cells = []
        for compile in ("off", backend):
            engine, bare, state = images_a_second(
                ready, replace(half, compile=compile), steps, BLOCKS if steps > 1 else 1
            )
            cells.append(f"{engine:,.0f} | {bare:,.0f} | {engine / bare:.2f}")
        before = time.perf_counter()
        checkpoint.save(Path(folder), 1, state.groups(), {})
        stall = time.perf_counter() - before
        peak = ""
        if ready.device.type == "cuda":
            del state
            torch.cuda.reset_peak_memory_stats()
            images_a_second(ready, half, 1)
            peak = f"{torch.cuda.max_memory_allocated() / 2**30:.2f}"
        planned = plan(recipe, Path(folder)).needed.bytes / 2**30
    print(
        f"| {name} | {half.words} | {' | '.join(cells)} | {stall:.2f} | {peak} | {planned:.2f} |", flush=True
    )


def exactness(device: str) -> None:
    """A run that is stopped and resumed, replayed and filmed."""
    tiny = ["train.steps=40", "train.batch_size=8", "network.width=8", "checkpoint.every=20",
            "watch.every=40", "watch.images=10", "watch.held_out=16", f"train.device={device}",
            "train.precision=fp32"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        runs = ["--runs", folder]
        safelight("train", "digits", "--no-check", "--name", "whole", *tiny, *runs)
        safelight("train", "digits", "--no-check", "--name", "half", *tiny, "train.steps=20", *runs)
        safelight("resume", "half", "--steps", "40", *runs)
        print(safelight("replay", "whole", "--step", "33", *runs))
        same = len({_digest(Path(folder) / name) for name in ("whole", "half")}) == 1
        print("resumed to the same weights" if same else "resumed to OTHER weights")
        print(safelight("film", "whole", "0.3", "--to", "40", "--out", f"{folder}/film.mp4", *runs))


def _digest(run: Path) -> str:
    """Of the newest checkpoint."""
    step = checkpoint_files.list_steps(run)[-1]
    return checkpoint_files.read(checkpoint_files.directory(run, step)).digest


def safelight(*words: str) -> str:
    """What a command prints. Ends the benchmark where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "safelight", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"safelight {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="Do the same on the CPU with tiny networks.")
    dry = parser.parse_args().dry_run
    if not dry and not torch.cuda.is_available():
        sys.exit("no CUDA device is here; --dry-run shows what would be measured")
    began, device = time.monotonic(), "cpu" if dry else "cuda"
    steps, backend = (1, "aot_eager") if dry else (STEPS, "inductor")
    here = "the CPU, tiny networks: a dry run" if dry else torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, {here}, {os.cpu_count()} cores\n", flush=True)
    tests = ["pytest", "-q", "-m", "cuda", "tests"]
    if dry:
        print(f"1. would run: {' '.join(tests)}")
    else:
        subprocess.run([sys.executable, "-m", *tests, "-p", "no:cacheprovider"], check=False)
    print("2. a run stopped, resumed, replayed and filmed", flush=True)
    exactness(device)
    print(f"3. images a second in blocks of {steps} steps, medians; checkpoints; memory\n")
    print("| recipe | arithmetic | engine | bare | share | compiled: engine | bare | share | checkpoint, s "
          "| GiB at most | GiB planned |")  # fmt: skip
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for name, changes in CASES.items():
        if not dry and time.monotonic() - began > LIMIT:
            print(f"| {name} | left out: the time was over |")
            continue
        whole = {**changes, **(TINY[name] if dry else {}), "train.device": device}
        whole = {key: value for key, value in whole.items() if value is not None}
        speed(name, load(name, whole), steps, backend)
    print(f"\n{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
