"""How well `safelight plan` foretells a training: its time and memory against those of the training itself.

    python benchmarks/plan.py [RECIPE ...] [--steps N]

Each recipe is planned in one process and trained for N steps in another. Time is processor time a step, which
other programs on the machine disturb least. Memory is the most that the whole process held.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

RECIPES = ("digits", "faces-small", "fashion-gan")


def trained(name: str, steps: int) -> dict[str, float]:
    """Processor seconds a step, and the most bytes that the process held."""
    from safelight.engine import precision
    from safelight.engine.distributed import World
    from safelight.engine.loop import Job, train
    from safelight.loading.prepare import prepare
    from safelight.loading.probe import choose_execution
    from safelight.recipe import load

    ready = prepare(load(name), World())
    execution = choose_execution(ready)  # remembered by the plan before it
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak of opening the data
    plan = replace(ready.plan, steps=steps)
    times: list[float] = []
    train(
        Job(
            ready.method,
            ready.state(execution.memory_format),
            ready.stream,
            lambda step: plan,
            lambda record: None,
            lambda signals: times.append(time.process_time()),
            autocast=precision.autocast(ready.device, execution.precision),
            device=ready.device,
        )
    )
    period = math.lcm(*(phase.every for phase in ready.method.phases))  # lazy phases, at their share
    first = min(3, steps - 2)
    first += (steps - 1 - first) % period if steps - 1 - first > period else 0
    return {"seconds": (times[-1] - times[first]) / (steps - 1 - first), "bytes": peak()}


def peak() -> int:
    """The most bytes that this process has held."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("VmHWM is not told here; this benchmark needs Linux")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--train", action="store_true", help="only train, and print JSON")
    arguments = parser.parse_args()
    if arguments.train:
        print(json.dumps(trained(arguments.recipes[0], arguments.steps)))
        return
    print("| recipe | planned s a step | measured | | planned memory | measured | |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in arguments.recipes:
        planned = printed_by([sys.executable, "-m", "safelight", "plan", name, "--json"])
        real = printed_by([sys.executable, __file__, name, "--steps", str(arguments.steps), "--train"])
        seconds, memory = planned["processor_seconds_a_step"], planned["memory_needed"]
        time_ratio, memory_ratio = seconds / real["seconds"] - 1, memory / real["bytes"] - 1
        print(
            f"| {name} | {seconds:.3f} | {real['seconds']:.3f} | {time_ratio:+.0%} "
            f"| {memory / 2**20:,.0f} MiB | {real['bytes'] / 2**20:,.0f} MiB | {memory_ratio:+.0%} |",
            flush=True,
        )


def printed_by(command: list[str]) -> dict[str, float]:
    """The JSON object that a command prints."""
    printed: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return printed


if __name__ == "__main__":
    main()
