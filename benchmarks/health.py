"""Small trainings that are well or fail in known ways, several seeds each, and what the monitors say of them.

    python benchmarks/health.py FOLDER [SEED ...] [--case NAME ...]

Runs go into FOLDER; those that are finished are not trained again. A verdict is right that names what was
done to the run, or what comes of it, and in time within a quarter of the run since it is ill; copies of
training images take as long as they take. A run that is well has none.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path

from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.store import inbox
from safelight.store.directory import RUN, RunDirectory
from safelight.store.listing import summary
from safelight.store.metrics import MetricsRow
from safelight.training.progress import Show
from safelight.training.start import begin

Changes = dict[str, object]
IN_TIME = 0.25  # of the run

GAN, TEXT = (str(Path(__file__).parent / name) for name in ("health.toml", "health_text.toml"))
PAIRED: Changes = {"method.loss": "relativistic", "loss.weights.r2": 0.5}
FREE: Changes = {"loss.weights.r1": 0.0, "loss.weights.r2": 0.0}
SLOW: Changes = {"optim.generator.betas": [0.9, 0.99], "optim.discriminator.betas": [0.9, 0.99]}
SMALL: Changes = {
    "train.precision": "fp32",
    "train.memory_format": "contiguous",
    "network.width": 16,
    "train.steps": 300,
    "watch.every": 15,
    "checkpoint.every": 300,
}
FACES: Changes = {
    "data.size": 32,
    "train.precision": "fp32",
    "train.memory_format": "contiguous",
    "train.steps": 300,
    "watch.every": 15,
    "checkpoint.every": 300,
}


def rates(generator: float, discriminator: float) -> Changes:
    """Learning rates of a GAN's networks."""
    return {"optim.generator.lr": generator, "optim.discriminator.lr": discriminator}


STEADY: Changes = {"loss.weights.kl": 1.0}  # the recipe's ramp is longer than these runs
UNTOLD: Changes = {"data.attributes": [], "data.need_attributes": False}  # no conditions: all is said by z
FALLING: Changes = {
    "loss.weights.kl": {"begin": 1.0, "end": 0.0, "after": 100, "over": 50, "shape": "linear"}
}
ALONE: Changes = {"loss.weights.r1": 0.0, "loss.weights.mismatch": 0.0}  # nothing holds it back
ADA: Changes = {"method.augment": "ada", "method.ada_kimg": 5.0}
BLOWN: Changes = {"optim.lr": 0.3, "optim.clip": 0.0}
NOISY: Changes = {  # the error of a prediction of noise is multiplied in the image, most in its mean colour
    "method.process": "ddpm",
    "method.prediction": "epsilon",
    "method.betas": "cosine",
    "optim.lr": 5e-3,
    "optim.schedule": "constant",
    "train.ema": 0.95,
    "train.ema_lengths": [],
    "train.steps": 400,
    "watch.every": 20,
    "checkpoint.every": 400,
}
FEW: Changes = {"data.held_out": 0.98, "train.steps": 1500, "watch.every": 75}
WINS = ("discriminator wins",)
NEVER = ("mode collapse", "discriminator dead", "not finite or spike")  # what an over-trained generator shows


@dataclass(frozen=True)
class Case:
    """A run, and which verdicts on it are right; none where it is well."""

    recipe: str
    changes: Changes
    right: tuple[str, ...] = ()
    later: Changes = field(default_factory=dict)  # edits halfway, which make it ill
    by: float = IN_TIME  # share of the run by which one of them has to be there


REAL: Changes = {"data.source": "fashion-mnist"}  # real pictures: a local copy, or downloaded once


def young(changes: Changes, steps: int = 80) -> Changes:
    """The same, begun and hardly trained: what its samples are is decided by what is left of the noise."""
    early: Changes = {
        "train.steps": steps,
        "watch.every": steps // 8,
        "checkpoint.every": steps,
        "train.batch_size": 16,
        "train.precision": "fp32",
        "train.memory_format": "contiguous",
    }
    return changes | early


CASES = {
    "healthy": Case(GAN, {}),
    "healthy, relativistic": Case(GAN, PAIRED),
    "healthy, ADA": Case(GAN, ADA),
    "healthy, diffusion": Case("digits", SMALL),
    "healthy, VAE": Case("faces-small", FACES | STEADY),
    "healthy, VAE without conditions": Case("faces-small", FACES | STEADY | UNTOLD),
    "healthy, text GAN": Case(TEXT, {}),
    "young, diffusion": Case("digits", young(SMALL)),
    "young, diffusion of real pictures": Case("fashion", young({}, 200)),
    "young, slow diffusion of real pictures": Case("digits", young(SMALL | REAL | {"optim.lr": 2e-4}, 200)),
    "young, DDPM": Case("digits-class", young({"network.width": 16})),
    "young, one-step denoiser": Case("digits-denoise", young({"network.width": 16})),
    "young, GAN": Case(GAN, young({})),
    "young, GAN of real pictures": Case("fashion-gan", young({})),
    "young, text GAN": Case(TEXT, young({})),
    "young, VAE": Case("faces-small", young(FACES)),
    "young, VAE of real pictures": Case("fashion-vae", young({})),
    "runaway discriminator": Case(GAN, FREE | rates(2e-5, 3e-3), WINS),
    "runaway, relativistic": Case(GAN, PAIRED | FREE | rates(2e-5, 3e-3), WINS),
    "runaway, text GAN": Case(TEXT, ALONE | rates(2e-5, 2e-2), WINS),
    "over-trained generator": Case(GAN, rates(1e-2, 1e-5), NEVER),
    "over-trained, relativistic": Case(GAN, PAIRED | rates(1e-2, 1e-5), NEVER),
    "collapsed": Case(GAN, FREE | SLOW | rates(1e-2, 1e-2), NEVER),
    "collapsed, relativistic": Case(GAN, PAIRED | FREE | SLOW | rates(1e-2, 5e-3), NEVER),
    "diffusion, learning rate x 300": Case(
        "digits", SMALL | BLOWN, ("not finite or spike", "condition ignored")
    ),
    "diffusion of 36 images": Case("digits", SMALL | FEW, ("memorising",), by=1.0),
    "diffusion, learning rate x 5 halfway": Case(
        "digits", SMALL | NOISY, ("colour drift",), {"optim.lr": 2.5e-2}, by=0.5 + IN_TIME
    ),
    "VAE, weight 1": Case(
        "faces-small", FACES | STEADY | {"loss.weights.mse": 1.0}, ("KL collapse",), by=0.5
    ),
    "VAE, KL weight gone halfway": Case("faces-small", FACES | FALLING, ("KL explosion",), by=0.5 + IN_TIME),
}


def trained(folder: Path, case: str, seed: int) -> RunDirectory:
    """The finished run of a case, trained if need be."""
    settings = CASES[case]
    name = re.sub("[^a-z0-9]+", "-", case.lower()) + f"-{seed}"
    there = RunDirectory(folder / name)
    if (there.path / RUN).is_file() and summary(there).status == "finished":
        return there
    recipe = load(settings.recipe, settings.changes | {"train.seed": seed})
    half, waiting = (recipe.train.steps or 0) // 2, [settings.later] if settings.later else []

    def edit(rows: list[MetricsRow]) -> None:
        if waiting and rows[-1].step >= half:
            inbox.drop(there.path, waiting.pop(), "benchmark")

    return begin(recipe, folder, name, World(), Show(rows=edit))


def judged(run: RunDirectory, case: Case) -> tuple[str, str]:
    """Of a run: "right", "late", "missed", "false alarm" or "well", and its verdicts in words."""
    begun = [entry.fields for entry in run.journal().of_kind("verdict") if entry.fields["begins"]]
    names = ", ".join(f"{verdict['name']} at {verdict['step']}" for verdict in begun) or "none"
    if not case.right:
        return ("false alarm" if begun else "well"), names
    steps = [verdict["step"] for verdict in begun if verdict["name"] in case.right]
    if not steps:
        return "missed", names
    return ("right" if min(steps) <= case.by * run.info().steps else "late"), names


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("seeds", nargs="*", type=int, default=(0, 1))
    parser.add_argument("--case", action="append", choices=CASES, help="one of the runs; all unless stated")
    arguments = parser.parse_args()
    print("| run | outcome by seed | verdicts |\n|---|---|---|")
    for case in arguments.case or CASES:
        outcomes = [judged(trained(arguments.folder, case, seed), CASES[case]) for seed in arguments.seeds]
        print(f"| {case} | {', '.join(outcome for outcome, _ in outcomes)} | "
              f"{'; '.join(words for _, words in outcomes)} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
