"""Optimisers at equal processor seconds, and the schedules wsd and cosine at equal steps.

    nice -n 10 python benchmarks/optimisers.py RUNS digits fashion-vae fashion-gan [--seconds 60] [--seeds 3]
    nice -n 10 python benchmarks/optimisers.py RUNS --schedules 1000 2000

One thread, bf16. The steps that a kind makes in the seconds are measured on a short run of it. `KINDS` has
the learning rates of each, as factors of the recipe's: on digits, each is trained with seed 0, and the one of
the least distance with the other seeds and recipes; networks on fashion are half as wide. What is there
already is not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

import safelight as sl
from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.store.metrics import MetricsRow
from safelight.training.progress import Show
from safelight.training.start import begin

PROBE, SAMPLES = 60, 1000  # steps, of which the second half is timed; images
KINDS: dict[str, tuple[float, ...]] = {
    "adamw": (1, 2),
    "schedule-free": (1, 3),
    "soap": (1, 3),
    "muon": (1, 3),
    "adafactor": (10,),
}
COMMON = {
    "train.precision": "bf16", "train.memory_format": "channels_last", "train.device": "cpu",
    "watch.every": 10**6, "checkpoint.every": 10**6, "check.before_training": False, "monitor.warmup": 0.99,
    "watch.held_out": 500,
}  # fmt: skip
HALF: dict[str, dict[str, Any]] = {  # as wide, so that a minute is more than a few steps
    "digits": {},
    "fashion-vae": {"network.encoder.widths": [16, 32, 64], "network.decoder.widths": [64, 32, 16]},
    "fashion-gan": {"network.generator.widths": [64, 32, 16], "network.discriminator.widths": [16, 32, 64]},
}
JUDGES = {"digits": "FD-classifier", "fashion-vae": "held-out bpd*", "fashion-gan": "FD-classifier"}


def changes(family: str, kind: str, factor: float, steps: int) -> dict[str, Any]:
    """What makes a recipe one of this kind and length, its warm-up at most a tenth."""
    recipe = load(family)
    made: dict[str, Any] = {"train.steps": steps, **HALF[family]}
    for network, settings in recipe.optim.items():
        where = f"optim.{network}" if len(recipe.optim) > 1 and family == "fashion-gan" else "optim"
        stated = settings.kind if kind == "adamw" else kind  # the recipe's: adamw or adam
        warmup = min(settings.warmup, steps // 10)
        made |= {f"{where}.kind": stated, f"{where}.lr": settings.lr * factor, f"{where}.warmup": warmup}
        if kind == "schedule-free":
            made |= {f"{where}.schedule": "constant", f"{where}.betas": [settings.betas[0] or 0.5, 0.99]}
    return made


def trained(name: str, family: str, stated: Mapping[str, Any], runs: Path) -> float:
    """A run, made now if it is not there; processor seconds a step, after the first rows."""
    path = runs / f"{name}.seconds"
    if not path.is_file():
        shutil.rmtree(runs / name, ignore_errors=True)
        seen: list[tuple[int, float]] = []

        def rows(new: list[MetricsRow]) -> None:
            seen.append((new[-1].step, time.process_time()))

        begin(load(family, {**COMMON, **stated}), runs, name, World(), Show(rows=rows))
        (first, began), (last, ended) = seen[len(seen) // 2 if name.endswith("probe") else 0], seen[-1]
        path.write_text(str((ended - began) / max(last - first, 1)))
    return float(path.read_text())


def numbers(name: str, runs: Path) -> dict[str, list[float]]:
    """Distances of a run's samples, each with its floor, and held-out losses."""
    path = runs / f"{name}.json"
    if not path.is_file():
        run = sl.open_run(name, runs=runs)
        evaluation = run.evaluate(SAMPLES, "classifier", reference=2000)
        result = {key: [each.value, each.floor] for key, each in evaluation.results.items()}
        for key, values in run.metrics().items():
            if key.startswith("held_out/"):
                result[key.replace("held_out/", "held-out ")] = [float(values[np.isfinite(values)][-1])]
        path.write_text(json.dumps(result))
    got: dict[str, list[float]] = json.loads(path.read_text())
    return got


def row(title: str, each: list[dict[str, list[float]]], keys: list[str]) -> str:
    """Values by seed of the first key, then means."""
    first = ", ".join(f"{item[keys[0]][0]:.4g}" for item in each)
    return (
        f"| {title} | {first} | "
        + " | ".join(f"{mean(item[key][0] for item in each):.4g}" for key in keys)
        + " |"
    )


def head(title: str, keys: list[str]) -> str:
    return f"\n| {title} | {keys[0]} by seed | {' | '.join(keys)} |\n" + "|---" * (len(keys) + 2) + "|"


def kinds(family: str, options: argparse.Namespace) -> None:
    """The table of a family."""
    runs, judge = options.runs, JUDGES[family]
    chosen: dict[str, float] = {}
    made: dict[str, list[dict[str, list[float]]]] = {}
    steps: dict[str, int] = {}
    for kind in options.kinds:
        probe = trained(f"{family}-{kind}-probe", family, changes(family, kind, 1, PROBE), runs)
        steps[kind] = int(options.seconds / probe)
    for seed in range(options.seeds):
        for kind in options.kinds:
            for factor in [chosen[kind]] if kind in chosen else factors(kind, family, runs):
                name = f"{family}-{kind}-{factor}-{seed}"
                stated = {"train.seed": seed, **changes(family, kind, factor, steps[kind])}
                trained(name, family, stated, runs)
                measured = numbers(name, runs)
                print(name, steps[kind], measured[judge], flush=True)
                if kind not in chosen or measured[judge][0] < made[kind][-1][judge][0]:
                    made[kind] = [*made.get(kind, [])[:seed], measured]
                    if seed == 0:
                        chosen[kind] = factor
                elif seed:
                    made[kind].append(measured)
            (runs / f"{family}-{kind}.factor").write_text(str(chosen[kind]))
    keys = [
        judge,
        *(key for key in ("FD-classifier", "recall", "coverage", "class accuracy") if key != judge),
    ]
    title = head(f"{family}, {options.seconds:g} s", keys).replace("|\n", "| steps | s taken | rate |\n", 1)
    print(title + "---|---|---|")
    for kind, each in made.items():
        files = [runs / f"{family}-{kind}-{chosen[kind]}-{seed}.seconds" for seed in range(options.seeds)]
        took = ", ".join(f"{steps[kind] * float(file.read_text()):.0f}" for file in files)
        print(row(kind, each, keys) + f" {steps[kind]} | {took} | {chosen[kind]:g} |")
    print(f"floors: {[made[options.kinds[0]][0][key][1:] for key in keys]}")


def factors(kind: str, family: str, runs: Path) -> tuple[float, ...]:
    """Of the recipe's rate: all of the kind on digits; that which digits chose on others."""
    path = runs / f"digits-{kind}.factor"
    return (float(path.read_text()),) if family != "digits" and path.is_file() else KINDS[kind]


def schedules(options: argparse.Namespace) -> None:
    """wsd and cosine on digits at equal steps."""
    for steps in options.schedules:
        rows: dict[str, list[dict[str, list[float]]]] = {"cosine": [], "wsd": []}
        for seed in range(options.seeds):
            for schedule, each in rows.items():
                name = f"{schedule}-{steps}-{seed}"
                stated = {"train.steps": steps, "train.seed": seed, "optim.schedule": schedule}
                trained(name, "digits", stated, options.runs)
                each.append(numbers(name, options.runs))
                print(name, each[-1]["FD-classifier"], flush=True)
        held = sorted(key for key in rows["wsd"][0] if key.startswith("held-out"))
        for item in (item for each in rows.values() for item in each):
            item["held-out mean"] = [mean(item[key][0] for key in held)]
        keys = ["FD-classifier", "KID-classifier", "recall", "coverage", "class accuracy", "held-out mean"]
        print(head(f"digits, {steps} steps", keys))
        for schedule, each in rows.items():
            print(row(schedule, each, keys))
        print(f"floors: {[rows['wsd'][0][key][1:] for key in keys]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("families", nargs="*", choices=[[], *JUDGES])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--schedules", nargs="*", type=int, default=[])
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    schedules(options)
    for family in options.families:
        kinds(family, options)


if __name__ == "__main__":
    main()
