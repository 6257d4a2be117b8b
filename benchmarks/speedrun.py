"""Processor seconds of one thread until samples are good: ever longer trainings, each whole, over seeds.

    python benchmarks/speedrun.py digits --seconds 6,10,15,25 --seeds 5
    python benchmarks/speedrun.py digits train.batch_size=32 method.prediction=x0 --seconds 6,10,15
    python benchmarks/speedrun.py mnist --seconds 30,60,120 --seeds 3 --distance 2.5

Recipes are made as long as the seconds, as `--minutes` makes them. Samples of the held-out classes, guided as
the recipe says; a classifier of the labels judges. The goal is 90 % recognised, or the distance stated.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from statistics import mean

import torch
from peers import CHUNK, Fit, Judge

from safelight.config import parse_override
from safelight.data import open_data
from safelight.evaluate.features import extract
from safelight.recipe import load

QUIET = {"watch.every": 10**6, "watch.held_out": 0, "checkpoint.every": 10**6, "check.before_training": False,
         "train.precision": "fp32", "train.memory_format": "channels_last", "train.device": "cpu",
         "train.ema_lengths": []}  # fmt: skip


def scores(fit: Fit, seconds: float, seed: int, n: int, judge: Judge) -> dict[str, float]:
    """What samples of a recipe are worth after so many processor seconds."""
    run, spent, steps = fit.train(fit.steps(seconds), seed=seed)
    drawn = run.sample(n, seed=seed)
    features = extract(judge.extractor, [drawn.images[at : at + CHUNK] for at in range(0, n, CHUNK)])
    assert features.classes is not None
    known = not run.recipe.data.clusters
    accuracy = float((features.classes.numpy() == drawn.given["label"]).mean()) if known else math.nan
    return {"steps": steps, "spent": spent, "accuracy": accuracy, **judge.scores(features.values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("keys", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--seconds", default="6,10,15,25", help="Of each training. Default: 6,10,15,25.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--n", type=int, default=500, help="Samples of each. Default: 500.")
    parser.add_argument("--runs", type=Path, default=Path("speedruns"))
    parser.add_argument("--distance", type=float, help="Goal as a distance. Default: 90 %% recognised.")
    given = parser.parse_intermixed_args()  # keys may stand before or after options
    torch.set_num_threads(1)
    keys = dict(parse_override(key) for key in given.keys)
    data = load(given.recipe, keys).data
    judge = Judge(open_data(data.model_copy(update={"labels": True, "clusters": None})), True, given.n)
    fit = Fit(given.recipe, {**QUIET, **keys}, given.runs)
    print("| CPU s, mean | steps | recognised, mean | least | distance | recall | coverage |")
    print("|" + 7 * "---:|", flush=True)
    reached = None
    for seconds in map(float, given.seconds.split(",")):
        rows = [scores(fit, seconds, seed, given.n, judge) for seed in range(given.seeds)]
        row = {key: mean(row[key] for row in rows) for key in rows[0]}
        good = row["distance"] <= given.distance if given.distance else row["accuracy"] >= 0.9
        reached = reached or (row["spent"] if good else None)
        least = min(row["accuracy"] for row in rows)
        cells = [f"{row['accuracy']:.3f}", f"{least:.3f}", f"{row['distance']:.2f}", f"{row['recall']:.3f}"]
        cost = f"{row['spent']:.1f} | {row['steps']:.0f}"
        print(f"| {cost} | {' | '.join(cells)} | {row['coverage']:.3f} |", flush=True)
    print(f"real pictures: distance {judge.scores(judge.others)['distance']:.2f}")
    print(f"goal reached after {reached:.1f} s" if reached else "goal not reached")


if __name__ == "__main__":
    main()
