"""The recipe made for a folder against shipped recipes adapted by hand, on four folders.

    python benchmarks/folders.py OPENMOJI FASHION WALLPAPERS [--minutes 2.5] [--work DIR] [case ...]

OPENMOJI: made by examples/prepare_openmoji.py; with captions alone and with masks alone it is two cases.
FASHION: folder of Fashion-MNIST's idx files; 10,000 of its images are written as PNGs in class folders.
WALLPAPERS: any pictures, such as those of the Debian packages gnome-backgrounds, mate-backgrounds and
plasma-workspace-wallpapers.

Every training is `safelight train` in a process of its own, one thread, with an empty cache: its
processor seconds are all there are, imports, packing and reports included. The hand-made one is trained
with as many steps as take those of the chosen one, an autoencoder or encoder before it included: by RATES
first, and where that is off by more than EQUAL, again by the rate of its sheets. What has been trained is
kept in --work with its seconds, so that the command, cut off, goes on where it was. Samples and all
pictures of the folder, at its own size up to 64 pixels, are compared by EfficientNet's features, which
trained neither.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import safelight as sl
from safelight import recipes
from safelight.config import check
from safelight.data import open_data
from safelight.data.config import Data
from safelight.evaluate.distances import fitted, frechet, kid, prdc
from safelight.evaluate.features import Extractor, extract, open_efficientnet
from safelight.types import DataSpec

SAMPLES = 500
RATES = {"openmoji-captions": 3.5, "openmoji-masks": 6.0, "fashion": 6.0, "wallpapers": 1.0}  # steps a second
BEFORE = 40.0  # processor seconds of the autoencoder or the encoder that comes first
EQUAL = 0.05  # of the processor seconds
CLASSES = ["tshirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
# The best shipped recipe for each, what is trained before it, and what a person would change.
ADAPTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "openmoji-captions": ("captions-small", "captions-encoder", {
        "data.text_encoder": "recipe:{stage}", "network.encoder.path": "recipe:{stage}", "train.ema": 0.98}),
    "openmoji-masks": ("openmoji", "skin-autoencoder", {
        "data.latents.autoencoder": "recipe:{stage}", "train.ema": 0.98}),
    "fashion": ("fashion", "", {"data.source": "folder", "train.ema": 0.99}),
    "wallpapers": ("skylines-small", "", {"train.ema": 0.98}),
}  # fmt: skip
STAGES = {
    "captions-encoder": {'"sentences"': '"words"', "steps = 600": "steps = 40",
                         "batch_size = 128": "batch_size = 64", "warmup = 100": "warmup = 10"},
    "skin-autoencoder": {"steps = 3000": "steps = 150"},
}  # fmt: skip


@dataclass
class Trained:
    """A training, its processor seconds, and those at which each sheet was there."""

    seconds: float
    sheets: dict[int, float] = field(default_factory=dict)


def train(name: str, words: list[str], work: Path) -> Trained:
    """`safelight train` with an empty cache; what has been trained under that name is not trained again."""
    if (kept := work / f"{name}.json").exists():
        seconds, sheets = json.loads(kept.read_text())
        return Trained(seconds, {int(step): at for step, at in sheets.items()})
    runs, cache = work / "runs", work / "cache" / name
    for folder in (runs / name, cache):
        shutil.rmtree(folder, ignore_errors=True)
    environment = {**os.environ, "SAFELIGHT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "safelight", "train", *words, "--name", name, "--runs", str(runs)]
    done = Trained(0.0)
    with (work / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=work)
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            for sheet in (runs / name / "sheets").glob("0*.png"):
                done.sheets.setdefault(int(sheet.stem), _spent(process.pid))
            time.sleep(0.2)
    if ended[1]:
        sys.exit(f"{name} failed; see {work / name}.log")
    done.seconds = ended[2].ru_utime + ended[2].ru_stime
    kept.write_text(json.dumps([done.seconds, done.sheets]))
    return done


def _spent(process: int) -> float:
    """Processor seconds of a process so far, those of its ended children included."""
    try:
        numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return sum(map(int, numbers[11:15])) / os.sysconf("SC_CLK_TCK")


class Judge:
    """Compares samples of a run with the pictures of a folder, all at one size."""

    def __init__(self, folder: Path, work: Path) -> None:
        os.environ["SAFELIGHT_CACHE"] = str(work / "cache" / "judge")
        first = Image.open(
            next(path for path in sorted(folder.rglob("*")) if path.suffix in (".png", ".jpg"))
        )
        self.side = min(64, *first.size)
        keys = {"path": str(folder), "size": self.side, "labels": False, "mask": "none", "skip_bad": True}
        pack = open_data(check(Data, keys, "data"))
        chosen = np.linspace(0, len(pack) - 1, min(2000, len(pack))).astype(int)
        self.extractor: Extractor = open_efficientnet(
            DataSpec((3, self.side, self.side), {}), torch.device("cpu")
        )
        self.real = self.features(np.asarray(pack.images)[chosen])
        noise = np.random.default_rng(0).normal(128, 64, (100, self.side, self.side, 3)).clip(0, 255)
        self.noise = self.kernel(self.features(noise.astype(np.uint8)))

    def features(self, images: NDArray[Any]) -> Tensor:
        """Of pictures (n, H, W, C), brought to the size."""
        whole = [Image.fromarray(image.squeeze()).convert("RGB") for image in images]
        same = [np.asarray(image.resize((self.side, self.side), Image.Resampling.BICUBIC)) for image in whole]
        return extract(self.extractor, [np.stack(same)]).values

    def kernel(self, features: Tensor) -> float:
        """The kernel distance to the real pictures, which few samples suffice for."""
        return kid(self.real, features, subsets=20, size=min(100, len(self.real), len(features)))[0]

    def of(self, name: str, work: Path) -> dict[str, float]:
        """What samples of a run are measured at."""
        os.environ["SAFELIGHT_CACHE"] = str(work / "cache" / name)
        features = self.features(sl.open_run(name, runs=work / "runs").sample(SAMPLES).images)
        shares = prdc(self.real, features)
        distance, kernel = frechet(fitted(self.real), fitted(features)), 1000 * self.kernel(features)
        return {"FD": distance, "KID x 1000": kernel, "recall": shares.recall, "coverage": shares.coverage}


def folders(openmoji: Path, fashion: Path, wallpapers: Path, work: Path) -> dict[str, Path]:
    """The four cases, written where they are not there yet."""
    for name, columns in (("openmoji-captions", ("text", "text_1")), ("openmoji-masks", ("mask",))):
        if not (folder := work / name).exists():
            shutil.copytree(openmoji / "images", folder / "images")
            if columns == ("mask",):
                shutil.copytree(openmoji / "masks", folder / "masks")
            with (openmoji / "metadata.csv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, ("file_name", *columns), extrasaction="ignore")
                table.writeheader()
                table.writerows(rows)
    if not (work / "fashion").exists():
        pack = open_data(check(Data, {"source": "fashion-mnist", "path": str(fashion)}, "data"))
        for item in range(10_000):
            folder = work / "fashion" / CLASSES[int(pack.given["label"][item])]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(pack.images[item]).squeeze()).save(folder / f"{item:05}.png")
    cases = {name: work / name for name in ("openmoji-captions", "openmoji-masks", "fashion")}
    return {**cases, "wallpapers": wallpapers}


def adapted(case: str, folder: Path, steps: int, work: Path) -> list[str]:
    """The words of a hand-made training."""
    recipe, stage, changes = ADAPTED[case]
    if stage:
        text = recipes.path(stage).read_text(encoding="utf-8")
        for before, after in STAGES[stage].items():
            assert before in text
            text = text.replace(before, after)
        (work / f"{stage}.toml").write_text(text, encoding="utf-8")
    keys = {**changes, "data.path": folder, "train.steps": steps, "watch.every": max(1, steps // 4)}
    return [recipe, *(f"{key}={value}".replace("{stage}", f"{stage}.toml") for key, value in keys.items())]


def hand_made(case: str, folder: Path, seconds: float, work: Path) -> tuple[str, Trained]:
    """The training by hand that takes about so many processor seconds, and its name."""
    before = BEFORE if ADAPTED[case][1] else 0.0
    steps = max(50, int((seconds - before - 12) * RATES[case]))
    for attempt in range(3):
        name = f"{case}-hand-{steps}"
        trained = train(name, adapted(case, folder, steps, work), work)
        first, *_, last = sorted(trained.sheets.items())
        rate = (last[0] - first[0]) / (last[1] - first[1])
        print(f"{name}: {trained.seconds:.0f} s, {rate:.2f} steps a second", flush=True)
        if abs(trained.seconds / seconds - 1) <= EQUAL or attempt == 2:
            break
        steps = max(50, steps + round((seconds - trained.seconds) * rate))
    return name, trained


def arguments(description: str | None) -> argparse.Namespace:
    """The command line that both benchmarks of folders take."""
    ask = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("openmoji", "fashion", "wallpapers"):
        ask.add_argument(name, type=lambda text: Path(text).resolve())
    ask.add_argument("cases", nargs="*", help="of the four; all by default")
    ask.add_argument("--minutes", type=float, default=2.5)
    ask.add_argument("--work", type=lambda text: Path(text).resolve(), default=Path("folders-work").resolve())
    return ask.parse_args()


def main() -> None:
    given = arguments(__doc__)
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    for case, folder in folders(given.openmoji, given.fashion, given.wallpapers, given.work).items():
        if given.cases and case not in given.cases:
            continue
        judge = Judge(folder, given.work)
        chosen = train(f"{case}-chosen", [str(folder), "--minutes", str(given.minutes)], given.work)
        _row(case, "chosen", chosen.seconds, judge.of(f"{case}-chosen", given.work))
        name, hand = hand_made(case, folder, chosen.seconds, given.work)
        _row(case, f"{ADAPTED[case][0]}, adapted", hand.seconds, judge.of(name, given.work))


def _row(case: str, which: str, seconds: float, values: dict[str, float]) -> None:
    numbers = " | ".join(f"{name} {value:.3g}" for name, value in values.items())
    print(f"| {case} | {which} | {seconds:.0f} s | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
