"""What the engine costs: its steps beside those of a bare hand-written loop, on the same model and data.

    python benchmarks/overhead.py

Both train the same network on the same images in the same order with the same optimiser and average of the
weights. The engine also draws its noise by name, clips, weighs named components, takes a fingerprint of the
weights and writes metrics to a file. The two take turns, step by step, so that the machine's load falls on
both alike; a block is long enough to hold the ledger's flushes, and what is told is the median block.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safelight.data import open_data
from safelight.data.pack import Pack
from safelight.data.stream import Stream
from safelight.engine import precision
from safelight.engine.ledger import Ledger
from safelight.engine.loop import Job, Signals, Stop, train
from safelight.engine.plan import Plan
from safelight.engine.precision import Execution
from safelight.engine.state import State, layout
from safelight.randomness import permutation
from safelight.recipe import Recipe, load
from safelight.store.metrics import MetricsWriter

Changes = dict[str, object]

CPU = torch.device("cpu")
BLOCKS = 15
GOAL_SHARE, GOAL_SECONDS = 0.03, 0.002  # at most 3 % of a long step, at most 2 ms of a short one


@dataclass(frozen=True)
class Case:
    """A recipe with changes, how it computes, and how many steps make a block."""

    title: str
    changes: Changes
    execution: Execution
    steps: int


SMALL: Changes = {"network.width": 8, "network.multipliers": [1], "network.middle": 1, "train.batch_size": 4}
PLAIN, FAST = Execution("fp32", "contiguous"), Execution("bf16", "channels_last")
NO_TRACKS: Changes = {"train.ema_lengths": []}
WIDE: Changes = {"network.width": 64}
CASES = [
    Case("smallest: unet of 8 channels, batch 4", SMALL | NO_TRACKS, PLAIN, 100),
    Case("smallest, with the two power tracks", SMALL, PLAIN, 100),
    Case("digits (0.5 M), bf16 channels_last", NO_TRACKS, FAST, 10),
    Case("digits, with the two power tracks", {}, FAST, 10),
    Case("digits, fp32 contiguous", NO_TRACKS, PLAIN, 6),
    Case("width 64 (1.5 M), bf16 channels_last", WIDE | NO_TRACKS, FAST, 6),
    Case("width 64, with the two power tracks", WIDE, FAST, 6),
]


@dataclass
class Clock:
    """Wall and processor seconds of a block's steps."""

    wall: float = 0.0
    processor: float = 0.0
    began: tuple[float, float] = field(default=(0.0, 0.0))

    def start(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.wall += time.perf_counter() - self.began[0]
        self.processor += time.process_time() - self.began[1]


def bare_loop(recipe: Recipe, pack: Pack, execution: Execution) -> Callable[[], None]:
    """A function that trains one step further each time: rectified flow as one would write it by hand."""
    optim, settings = recipe.optim["denoiser"], recipe.train
    net = recipe.method().networks(pack.spec)["denoiser"]
    net.to(memory_format=layout(execution.memory_format))  # type: ignore[call-overload]
    average = [parameter.detach().clone() for parameter in net.parameters()]
    live = [parameter.detach() for parameter in net.parameters()]
    adam = torch.optim.AdamW(net.parameters(), optim.lr, optim.betas, fused=True)
    images = torch.from_numpy(pack.images[pack.train])
    labels = torch.from_numpy(pack.given["label"][pack.train])
    autocast = precision.autocast(CPU, execution.precision)
    epochs = [permutation(len(images), settings.seed, "order", epoch) for epoch in range(10)]
    batches = iter(torch.split(torch.from_numpy(np.concatenate(epochs)), settings.batch_size))
    losses: list[Tensor] = []

    def step() -> None:
        items = next(batches)
        x = images[items].permute(0, 3, 1, 2).float() / 127.5 - 1
        t = torch.randn(len(x)).sigmoid()
        noise = torch.randn_like(x)
        x_t = x + t[:, None, None, None] * (noise - x)
        present = torch.rand(len(x)) >= 0.1
        with autocast():
            out = net(x_t, t, {"label": labels[items]}, present)
            loss = (out.float() - (noise - x)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), optim.clip)
        adam.step()
        adam.zero_grad()
        torch._foreach_lerp_(average, live, 1 - settings.ema)
        losses.append(loss.detach())

    return step


def compare(case: Case, pack: Pack, folder: Path) -> list[tuple[Clock, Clock]]:
    """Blocks of the engine and of the bare loop, in turn at every step."""
    recipe = load("digits", {"train.steps": 10**9, **case.changes})
    bare = bare_loop(recipe, pack, case.execution)
    plan = recipe.plan(len(pack.train))
    method = recipe.method()
    state = State(method, pack.spec, plan, CPU, case.execution.memory_format)
    blocks: list[tuple[Clock, Clock]] = []
    warm_up = 3
    with MetricsWriter(folder, 1, 0) as metrics:
        ledger = Ledger(metrics.append, recipe.train.batch_size)

        def boundary(signals: Signals) -> None:
            done = state.step - warm_up
            if done > 0:
                blocks[-1][0].stop()
            if done >= 0 and done % case.steps == 0:
                if len(blocks) == BLOCKS:
                    raise Stop
                blocks.append((Clock(), Clock()))
            last = blocks[-1] if blocks else (Clock(), Clock())
            last[1].start()
            bare()
            last[1].stop()
            last[0].start()

        autocast = precision.autocast(CPU, case.execution.precision)
        stream = Stream(pack, recipe.train.seed, recipe.train.batch_size)
        job = Job(method, state, stream, plans(recipe, pack), ledger.add, boundary, autocast=autocast)
        try:
            train(job)
        except Stop:
            ledger.flush()
    return blocks


def plans(recipe: Recipe, pack: Pack) -> Callable[[int], Plan]:
    """What is in force at a step, made anew at every step as a session does."""
    return lambda step: recipe.plan(len(pack.train))


def row_of(case: Case, blocks: list[tuple[Clock, Clock]]) -> str:
    """A row of the table: medians over the blocks, in ms a step."""

    def median(values: Iterable[float]) -> float:
        return statistics.median(values) / case.steps

    bare = median(bare.wall for _, bare in blocks)
    engine = median(engine.wall for engine, _ in blocks)
    extra = median(engine.wall - bare.wall for engine, bare in blocks)
    processor = median(engine.processor - bare.processor for engine, bare in blocks)
    goal = "kept" if extra <= max(GOAL_SHARE * bare, GOAL_SECONDS) else "missed"
    cells = [f"{bare * 1e3:.2f}", f"{engine * 1e3:.2f}", f"{extra * 1e3:.2f}", f"{extra / bare:.1%}"]
    return f"| {case.title} | {' | '.join(cells)} | {processor * 1e3:.2f} | {goal} |"


def main() -> None:
    """Measure every case and print the table."""
    torch.set_num_threads(1)
    pack = open_data(load("digits").data)
    print(
        f"torch {torch.__version__}, 1 thread, load {os.getloadavg()[0]:.1f}; ms a step, medians of blocks\n"
    )
    print("| | bare loop | engine | difference | share | difference in processor time | goal |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            print(row_of(case, compare(case, pack, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
