"""Fingerprints of weights after a short run of every recipe: equal where a change should change no number.

    python benchmarks/digests.py [RECIPE ...] [--out digests.json]
    python benchmarks/digests.py --against digests.json

Every recipe trains for three steps through the command line, in fp32 on one thread: full-size ones narrow and
in small batches, on pictures that are made here, and behind an autoencoder or an encoder that has trained for
three steps, too. Prints a line a recipe; with --against, exits with 1 where a digest differs. Left out are
`captions-image`, which needs the weights of a VGG, and `skylines`, which is too large.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
from PIL import Image

from safelight import recipes

STEPS = 3
FOLDER = "{folder}"
ENCODER = ["data.text_encoder=run:captions-encoder", "network.encoder.path=run:captions-encoder"]
NARROW = ["network.generator.base=1024", "network.discriminator.base=1024"]
LATENTS = ["data.latents.autoencoder=run:skin-autoencoder"]
CHANGES = {  # of recipes that need more than their name, or less than their batch; after those they need
    "captions": [FOLDER, *ENCODER, *NARROW, "data.size=64", "train.batch_size=2"],
    "captions-base": [FOLDER, *ENCODER, *NARROW, "data.size=64", "train.batch_size=2"],
    "captions-small": [FOLDER, *ENCODER],
    "captions-encoder": [FOLDER, "data.text_encoder=words", "train.batch_size=16"],
    "openmoji": [FOLDER, *LATENTS],
    "shapes-captions": ["data.text_encoder=run:shapes-encoder", "network.encoder.path=run:shapes-encoder"],
    "skin": ["data.source=tissue", "data.size=[64,64]", *LATENTS, "train.batch_size=4", "network.width=32"],
    "skin-small": LATENTS,
}
LEFT_OUT = ("captions-image", "skylines")


def pictures(folder: Path, count: int = 64, side: int = 64) -> Path:
    """A folder of coloured discs with captions, classes and masks, equal every time."""
    folder.mkdir()
    random = np.random.Generator(np.random.Philox(key=7))
    y, x = np.mgrid[:side, :side]
    with (folder / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "label", "text", "mask"])
        for index in range(count):
            colour, centre = random.integers(0, 256, 3), random.integers(16, 48, 2)
            inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < random.integers(8, 16) ** 2
            image = np.where(inside[..., None], colour, 255 - colour).astype(np.uint8)
            Image.fromarray(image).save(folder / f"{index:03}.png")
            Image.fromarray(inside.astype(np.uint8)).save(folder / f"{index:03}-mask.png")
            words = ["small", "large"][int(inside.sum() > 450)], ["left", "right"][int(centre[1] > 32)]
            table.writerow(
                [f"{index:03}.png", words[1], f"a {words[0]} disc {words[1]}", f"{index:03}-mask.png"]
            )
    return folder


def digest(recipe: str, work: Path) -> str:
    """The fingerprint of the weights after three steps, trained in a process of its own."""
    changes = [
        f"data.path={work / 'pictures'}" if change == FOLDER else change for change in CHANGES.get(recipe, [])
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SAFELIGHT_RUNS": str(work / "runs")}
    command = [sys.executable, "-m", "safelight"]
    fixed = [
        "train.memory_format=contiguous",
        f"train.steps={STEPS}",
        "train.precision=fp32",
        "train.device=cpu",
        "watch.images=4",
        "sample.steps=1",
    ]
    if family(recipe) != "diffusion":
        fixed.remove("sample.steps=1")
    train = [*command, "train", recipe, "--no-check", "--name", recipe, *changes, *fixed]
    done = subprocess.run(train, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1]}"
    rows = (work / "runs" / recipe / "metrics-0001.jsonl").read_text(encoding="utf-8").splitlines()
    return str(json.loads(rows[-1])["fingerprint"])


def family(name: str) -> str:
    """The method that a shipped recipe names."""
    return str(tomllib.loads(recipes.path(name).read_text(encoding="utf-8"))["method"]["name"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--out", type=Path, help="Write the digests to this JSON file.")
    parser.add_argument("--against", type=Path, help="Compare with the digests of this JSON file.")
    options = parser.parse_args()
    first = ["captions-encoder", "shapes-encoder", "skin-autoencoder"]  # others start from these
    rest = [name for name in recipes.names() if name not in (*first, *LEFT_OUT)]
    names = options.recipes or [*first, *rest]
    before = json.loads(options.against.read_text()) if options.against else {}
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        pictures(Path(folder) / "pictures")
        for name in names:
            digests[name] = digest(name, Path(folder))
            verdict = (
                "" if name not in before else "  equal" if before[name] == digests[name] else "  DIFFERS"
            )
            print(f"{name:20} {digests[name]}{verdict}", flush=True)
    if options.out:
        options.out.write_text(json.dumps(digests, indent=1) + "\n")
    if any(digests[name] != value for name, value in before.items() if name in digests):
        sys.exit(1)


if __name__ == "__main__":
    main()
