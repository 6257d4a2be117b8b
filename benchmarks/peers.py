"""Safelight and other trainers at equal processor time: same pictures, one thread, ten evaluations.

    python benchmarks/peers.py --minutes 8 --data mnist --systems safelight,lucidrains,diffusers
    python benchmarks/peers.py --minutes 2 --data openmoji --path openmoji/images --size 32

Each peer is the code of its package with its defaults (peer_training.py), installed by pip into WORK/venv,
which takes torch from this environment. A cell (data, minutes, system, seed) is kept as WORK/*.json with its
sheet and not trained again: the table can be made in pieces. Judged by features that trained none of them: a
classifier of the labels where there are, EfficientNet-Lite0 elsewhere; beside real pictures at the same n.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import safelight as sl
from safelight.config import check, parse_override
from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.pack import Pack
from safelight.evaluate.classifier import open_classifier
from safelight.evaluate.distances import fitted, frechet, prdc
from safelight.evaluate.features import Extractor, extract, open_efficientnet
from safelight.planning import rules
from safelight.recipe import load
from safelight.render.sheet import sheet
from safelight.render.sheet_file import save_png

PACKAGES = ["denoising-diffusion-pytorch", "ema-pytorch", "accelerate", "einops", "smalldiffusion", "pythae",
            "imageio", "diffusers"]  # fmt: skip
REAL, CHUNK = 10_000, 500
Images = NDArray[np.uint8]


def environment(work: Path) -> Path:
    """The Python of the peers' environment, made once. What is here, torch above all, is taken from here."""
    python = work / "venv" / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(work / "venv")], check=True)
        site = next((work / "venv" / "lib").glob("python3*/site-packages"))
        (site / "here.pth").write_text(str(Path(torch.__file__).parents[1]))
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *PACKAGES], check=True)
    return python


def peer(
    system: str, images: Images, seconds: float, n: int, work: Path, seed: int
) -> tuple[Images, dict[str, Any]]:
    """Samples of a peer, and what it says of its training."""
    pixels, out = work / "images.npy", work / "samples.npz"
    np.save(pixels, images)
    script = Path(__file__).with_name("peer_training.py")
    command = [environment(work), script, system, pixels, str(seconds), str(n), out, str(seed)]
    subprocess.run(list(map(str, command)), check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    with np.load(out) as kept:
        return kept["samples"], json.loads(str(kept["facts"]))


class Fit:
    """Runs of a recipe that take the processor seconds given; rate, warm-up and average follow the steps."""

    def __init__(self, name: str, keys: dict[str, Any], runs: Path) -> None:
        self.name, self.keys, self.runs, self.recipe = name, keys, runs, load(name, keys)
        self.train(10)  # imports, packs, kernels
        self.few = self.train(10)[1]
        self.cost = (self.train(110)[1] - self.few) / 100

    def train(self, steps: int, **more: Any) -> tuple[sl.Run, float, int]:
        """The run, the processor seconds that it took, and its steps. more: keys of [train]."""
        began, (optim,) = time.process_time(), self.recipe.optim.values()
        planned = self.recipe.train.steps or steps
        scaled = {choice.key: choice.value
                  for choice in rules.scaled(optim, self.recipe.train.ema, steps, planned)}  # fmt: skip
        run = sl.train(self.name, {**self.keys, **scaled}, runs=self.runs, steps=steps, **more)
        return run, time.process_time() - began, steps

    def steps(self, seconds: float) -> int:
        return max(10, 10 + int((seconds - self.few) / self.cost))


def drawn(run: sl.Run, pack: Pack, n: int, seed: int) -> Images:
    """Samples whose classes, where there are any, are drawn as often as they occur in training."""
    if "label" not in pack.given:
        return np.concatenate([run.sample(min(100, n - at), seed=at).images for at in range(0, n, 100)])
    classes = np.random.default_rng(seed).choice(pack.given["label"][pack.train], n)
    images = np.empty((n, *pack.images.shape[1:]), np.uint8)
    for label in np.unique(classes):
        at = np.flatnonzero(classes == label)
        images[at] = run.sample(len(at), seed=int(label), conditions={"label": str(label)}).images
    return images


def safelight(
    recipe: str, keys: dict[str, Any], seconds: float, n: int, work: Path, seed: int
) -> tuple[Images, dict[str, Any]]:
    """Samples of a recipe. The time includes what comes before and after the steps."""
    quiet = {"watch.every": 10**6, "watch.held_out": 0, "checkpoint.every": 10**6, "train.seed": seed,
             "check.before_training": False, "train.precision": "fp32",
             "train.memory_format": "channels_last", "train.device": "cpu", **keys}  # fmt: skip
    fit = Fit(recipe, quiet, work / "runs")
    run, spent, steps = fit.train(fit.steps(seconds))
    samples = drawn(run, open_data(run.recipe.data), n, seed)
    how = run.recipe.sample.model_dump()
    evaluations = how.get("steps", 1) * (1 + (how.get("guidance", 1) != 1))
    facts = {"seen": steps * run.recipe.train.batch_size, "evaluations": evaluations, "spent": spent}
    return samples, {**facts, "what": f"{recipe}, {steps} steps"}


class Judge:
    """Distance, recall and coverage of pictures beside real ones."""

    def __init__(self, pack: Pack, labels: bool, n: int) -> None:
        cpu = torch.device("cpu")
        self.extractor: Extractor = (
            open_classifier(pack, cpu, print) if labels else open_efficientnet(pack.spec, cpu)
        )
        few = len(pack.held_out) < 2 * n
        real = pack.train if few else pack.held_out  # of few pictures all are the reference
        self.real = self.features(np.asarray(pack.images[real[:REAL]]))
        self.others = self.features(np.asarray(pack.images[(pack.held_out if few else pack.train)[:n]]))

    def features(self, images: Images) -> Tensor:
        chunks = [images[at : at + CHUNK] for at in range(0, len(images), CHUNK)]
        return extract(self.extractor, chunks).values

    def scores(self, features: Tensor) -> dict[str, float]:
        near = prdc(self.real[: len(features)], features)
        return {"distance": frechet(fitted(features), fitted(self.real)), "recall": near.recall,
                "coverage": near.coverage}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="Processor minutes of each. Default: 8.")
    parser.add_argument("--data", default="mnist", help="mnist, fashion-mnist, or a word for --path.")
    parser.add_argument("--path", help="Folder of the data; of the idx files, or of pictures.")
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--systems", default="safelight,lucidrains,diffusers,smalldiffusion,pythae")
    parser.add_argument("--n", type=int, default=1000, help="Samples that are compared. Default: 1,000.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", default="mnist", help="Recipe of safelight, without labels.")
    parser.add_argument("--work", type=Path, default=Path("peers"))
    parser.add_argument("keys", nargs="*", metavar="KEY=VALUE", help="Keys of that recipe.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    labels = given.data in ("mnist", "fashion-mnist")
    section: dict[str, Any] = {"source": given.data if labels else "folder", "size": given.size}
    section |= {"path": given.path} if given.path else {}
    pack = open_data(check(Data, section | ({} if labels else {"labels": False, "mask": "none"}), "data"))
    judge = Judge(pack, labels, given.n)
    rows = {f"real pictures, n {len(judge.others)}": judge.scores(judge.others)}
    for system in given.systems.split(","):
        name = "-".join(
            [
                given.data,
                f"{given.minutes:g}",
                system,
                *[given.recipe, *given.keys] * (system == "safelight"),
                str(given.seed),
            ]
        )
        kept = work / f"{name}.json"
        if not kept.is_file():
            seconds = 60 * given.minutes
            if system == "safelight":
                data = {f"data.{key}": value for key, value in section.items()}
                stated = {**data, "data.labels": False, "data.mask": "none"}
                keys = stated | dict(parse_override(key) for key in given.keys)
                made = safelight(given.recipe, keys, seconds, given.n, work, given.seed)
            else:
                made = peer(system, np.asarray(pack.images[pack.train]), seconds, given.n, work, given.seed)
            samples, facts = made
            save_png(sheet(samples[:64], 8), work / f"{name}.png")
            kept.write_text(json.dumps({**facts, **judge.scores(judge.features(samples))}))
        rows[f"{system} ({json.loads(kept.read_text())['what']})"] = json.loads(kept.read_text())
    print(f"{given.data}, {given.minutes:g} CPU minutes; FD-{judge.extractor.name}\n")
    print("| system | distance | recall | coverage | seen | CPU s | evaluations |\n|---|" + 6 * "---:|")
    for name, row in rows.items():
        scores = f"{row['distance']:.2f} | {row['recall']:.3f} | {row['coverage']:.3f}"
        cost = f"{row.get('seen', 0):,} | {row.get('spent', 0):.0f} | {row.get('evaluations', 0)}"
        print(f"| {name} | {scores} | {cost} |")


if __name__ == "__main__":
    main()
