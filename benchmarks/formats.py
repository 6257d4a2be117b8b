"""What precision and memory format gain, on networks of two kinds.

    python benchmarks/formats.py [threads]

Whole training steps of the engine, in the four combinations in turn, so that the machine's load falls on all
alike; medians. It is what `precision = "auto"` and `memory_format = "auto"` find out about a user's model.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from safelight.data import open_data
from safelight.data.pack import Pack
from safelight.data.stream import Stream
from safelight.engine import precision
from safelight.engine.loop import Job, StepRecord, train
from safelight.engine.precision import Execution
from safelight.engine.state import State
from safelight.recipe import Recipe, load

CPU = torch.device("cpu")
ROUNDS = 9
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "digits_unet, D 64, batch 128: convolutions, batch norm": ("digits-class", {}),
    "unet of width 64, batch 64: convolutions, group norm": ("digits", {"network.width": 64}),
    "the same with attention on both levels": ("digits", {"network.width": 64, "network.attention": [0, 1]}),
}


def stepper(recipe: Recipe, pack: Pack, option: Execution) -> Callable[[], float]:
    """A function that trains one step further each time, and returns the seconds it took."""
    method, plan = recipe.method(), recipe.plan(len(pack.train))
    state = State(method, pack.spec, plan, CPU, option.memory_format)
    records: list[StepRecord] = []
    job = Job(
        method,
        state,
        Stream(pack, recipe.train.seed, recipe.train.batch_size),
        lambda step: plan,
        records.append,
        lambda signals: None,
        autocast=precision.autocast(CPU, option.precision),
    )

    def step() -> float:
        one_more = replace(plan, steps=state.step + 1)
        train(replace(job, plan_at=lambda step: one_more))
        return records[-1].seconds

    return step


def main() -> None:
    """Measure every case and print the table."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    options = precision.candidates(torch.device("cpu"), "auto", "auto")
    threads, load_now = torch.get_num_threads(), os.getloadavg()[0]
    print(f"torch {torch.__version__}, {threads} thread(s), load {load_now:.1f}; images a second, gain\n")
    titles = [f"{option.precision} {option.memory_format}" for option in options]
    print(f"| | {' | '.join(titles)} |\n|---|{'---:|' * len(options)}")
    for title, (name, changes) in CASES.items():
        recipe = load(name, changes)
        pack = open_data(recipe.data)
        steps = [stepper(recipe, pack, option) for option in options]
        for step in steps:
            step()
        times = [[step() for step in steps] for _ in range(ROUNDS)]
        rates = [recipe.train.batch_size / statistics.median(seconds) for seconds in zip(*times, strict=True)]
        cells = [f"{rate:.0f} ({rate / rates[0]:.2f}x)" for rate in rates]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
