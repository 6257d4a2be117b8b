"""Does transfer pay? A small folder of pictures, from scratch and from the weights of a run on others.

    nice -n 10 python benchmarks/transfer.py SOURCE TARGET RUNS

SOURCE, TARGET: folders of pictures. One run on SOURCE; then two on TARGET, equal but for init.from, with a
constant learning rate, so that every checkpoint is an end. Their samples' distances to TARGET at equal steps,
beside that of one half of TARGET to the other: the steps in which the second reaches the first's last value.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import safelight as sl

STEPS, EVERY, FIRST = 600, 50, (1, 2, 3, 4, 6, 8, 10, 12)  # FIRST: multiples of EVERY that are measured
COMMON = {
    "network.width": 32, "network.multipliers": [1, 2, 2], "data.size": 32, "train.batch_size": 32,
    "train.ema": 0.99, "train.ema_lengths": [], "optim.lr": 1e-3, "optim.schedule": "constant",
    "optim.warmup": 50, "watch.every": 300, "watch.held_out": 0, "watch.images": 24,
    "checkpoint.every": EVERY,
    "checkpoint.budget": 10**9, "check.before_training": False, "monitor.warmup": 0.9, "data.held_out": 0.0,
    "train.device": "cpu", "sample.guidance": 1.0,
}  # fmt: skip


def trained(name: str, folder: Path, runs: Path, **changes: object) -> None:
    """A run of that name, trained now if it is not there."""
    if (runs / name / "run.json").is_file():
        return
    began = time.process_time()
    path = {"data.path": str(folder), "data.source": "folder"}
    sl.train("digits", {**COMMON, **path, **changes}, name=name, runs=runs, check=False)
    print(f"{name}: {time.process_time() - began:.0f} s of CPU", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--source-steps", type=int, default=1500)
    arguments = parser.parse_args()
    runs = arguments.runs
    long = {"train.steps": arguments.source_steps, "checkpoint.every": 500}
    trained("source", arguments.source, runs, **long)
    trained("scratch", arguments.target, runs, **{"train.steps": STEPS})
    trained("warm", arguments.target, runs, **{"train.steps": STEPS, "init.from": "source"})
    rows: dict[str, dict[int, dict[str, float]]] = {}
    for name in ("scratch", "warm"):
        for step in (multiple * EVERY for multiple in FIRST):
            found = sl.open_run(name, step=step, runs=runs).evaluate(300, "efficientnet", reference=300)
            rows.setdefault(name, {})[step] = {key: each.value for key, each in found.results.items()}
            floor = {key: each.floor for key, each in found.results.items()}
            print(name, step, rows[name][step], flush=True)
    metrics = [key for key in ("fid", "frechet", "kid") if key in rows["scratch"][STEPS]]
    for metric in metrics or list(rows["scratch"][STEPS])[:2]:
        last = rows["scratch"][STEPS][metric]
        reached = min((step for step, row in rows["warm"].items() if row[metric] <= last), default=None)
        print(f"\n| step | {metric} from scratch | from weights |\n|---|---|---|")
        for step, row in rows["scratch"].items():
            print(f"| {step} | {row[metric]:.4g} | {rows['warm'][step][metric]:.4g} |")
        print(f"real against real: {floor[metric]}; from weights, step {reached} reaches {last:.4g}")


if __name__ == "__main__":
    main()
