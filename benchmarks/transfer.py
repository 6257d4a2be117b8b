"""Does transfer pay? A small folder of pictures, from scratch and from the weights of a run on others.

    nice -n 10 python benchmarks/transfer.py SOURCE TARGET RUNS [--seeds 3] [CASE ...]

SOURCE, TARGET: folders of pictures. One run on SOURCE; then for each seed one on TARGET from scratch, and one
of every case, equal but for what CASES says, with a constant learning rate, so that every checkpoint is an
end. A step costs the same in all. Their samples' distances to TARGET are shown by step, and the first step at
which a case is no farther than the last of its seed from scratch. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import mean
from typing import Any

import safelight as sl

STEPS, EVERY, SAMPLES = 600, 50, 600
MEASURED = {"scratch": (100, 200, 400, 600)}  # steps; other cases:
EARLY = (50, 100, 150, 200, 400, 600)
METRICS = ("FD-efficientnet", "KID-efficientnet")
WARM = {"init.from": "source"}
CASES: dict[str, dict[str, Any]] = {
    "scratch": {},
    "weights": WARM,
    "raw": {**WARM, "init.weights": "raw"},
    "third": {**WARM, "optim.lr": 3e-4},
    "thrice": {**WARM, "optim.lr": 3e-3},
    "lora": {**WARM, "train.lora": 16},
}
COMMON = {
    "network.width": 32, "network.multipliers": [1, 2, 2], "data.size": 32, "train.batch_size": 32,
    "train.ema": 0.99, "train.ema_lengths": [], "optim.lr": 1e-3, "optim.schedule": "constant",
    "optim.warmup": 50, "watch.every": 300, "watch.held_out": 0, "watch.images": 24,
    "checkpoint.every": EVERY, "train.precision": "bf16", "train.memory_format": "channels_last",
    "checkpoint.budget": 10**9, "check.before_training": False, "monitor.warmup": 0.9, "data.held_out": 0.0,
    "data.source": "folder", "train.device": "cpu", "sample.guidance": 1.0,
}  # fmt: skip


def trained(name: str, folder: Path, runs: Path, **changes: Any) -> None:
    """A run of that name, trained now as far as it is not."""
    began = time.process_time()
    if not (runs / name / "run.json").is_file():
        sl.train("digits", {**COMMON, "data.path": str(folder), **changes}, name=name, runs=runs, check=False)
    elif sl.open_run(name, runs=runs).step < changes["train.steps"]:
        sl.resume(name, runs=runs)
    print(f"{name}: {time.process_time() - began:.0f} s of CPU", flush=True)


def distances(name: str, step: int, runs: Path) -> dict[str, Any]:
    """Of a run's samples at a step, measured once: value and floor by metric."""
    path = runs / f"{name}-{step}.json"
    if not path.is_file():
        evaluation = sl.open_run(name, step=step, runs=runs).evaluate(SAMPLES, "efficientnet", reference=300)
        path.write_text(
            json.dumps({key: [each.value, each.floor] for key, each in evaluation.results.items()})
        )
        print(path.read_text(), flush=True)
    numbers: dict[str, Any] = json.loads(path.read_text())
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("source", "target", "runs"):
        parser.add_argument(name, type=Path)
    parser.add_argument("cases", nargs="*", default=["weights"], choices=list(CASES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--source-steps", type=int, default=1500)
    options = parser.parse_args()
    runs, cases = options.runs, ["scratch", *options.cases]
    trained("source", options.source, runs, **{"train.steps": options.source_steps, "checkpoint.every": 500})
    numbers: dict[tuple[str, int, int], dict[str, Any]] = {}
    for seed in range(options.seeds):
        for case in cases:
            name = f"{case}-{seed}"
            trained(name, options.target, runs, **{"train.steps": STEPS, "train.seed": seed}, **CASES[case])
            for step in MEASURED.get(case, EARLY):
                numbers[case, seed, step] = distances(name, step, runs)
    steps = sorted({step for _, _, step in numbers})
    for metric in METRICS:
        floor = numbers["scratch", 0, STEPS][metric][1]
        print(f"\n| {metric} at step | {' | '.join(map(str, steps))} | reached at |")
        print("|---" * (len(steps) + 2) + "|")
        for case in cases:
            row, reached = [], []
            for step in steps:
                each = [numbers[case, seed, step][metric][0] for seed in range(options.seeds)
                        if (case, seed, step) in numbers]  # fmt: skip
                row.append(f"{mean(each):.4g}" if each else "")
            for seed in range(options.seeds):
                last = numbers["scratch", seed, STEPS][metric][0]
                at = [step for step in steps if (case, seed, step) in numbers
                      and numbers[case, seed, step][metric][0] <= last]  # fmt: skip
                reached.append(str(at[0]) if at else "not")
            print(f"| {case} | {' | '.join(row)} | {', '.join(reached)} |")
        print(f"\nreal against real {floor}; means of {options.seeds} seeds, steps by seed")


if __name__ == "__main__":
    main()
