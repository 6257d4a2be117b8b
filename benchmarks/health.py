"""Small trainings that are well or fail in known ways, several seeds each, and what the monitors say of them.

    python benchmarks/health.py FOLDER [SEED ...] [--case NAME ...]

Runs go into FOLDER; those that are finished are not trained again. A verdict is right that names what was
done to the run, or what comes of it, and in time within a quarter of the run. A run that is well has none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safelight.engine.distributed import World
from safelight.recipes.recipe import load
from safelight.session.show import Show
from safelight.session.train import begin
from safelight.store.listing import summary
from safelight.store.run import RUN, RunDirectory

Changes = dict[str, object]
IN_TIME = 0.25  # of the run

GAN = str(Path(__file__).parent / "health.toml")
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
ADA: Changes = {"method.augment": "ada", "method.ada_kimg": 5.0}
BLOWN: Changes = {"optim.lr": 0.3, "optim.clip": 0.0}
WINS = ("discriminator wins",)
NEVER = ("mode collapse", "discriminator dead", "not finite or spike")  # what an over-trained generator shows
CASES: dict[str, tuple[str, Changes, tuple[str, ...]]] = {  # recipe, changes, verdicts one of which is right
    "healthy": (GAN, {}, ()),
    "healthy, relativistic": (GAN, PAIRED, ()),
    "healthy, ADA": (GAN, ADA, ()),
    "healthy, diffusion": ("digits", SMALL, ()),
    "healthy, VAE": ("faces-small", FACES | STEADY, ()),
    "runaway discriminator": (GAN, FREE | rates(2e-5, 3e-3), WINS),
    "runaway, relativistic": (GAN, PAIRED | FREE | rates(2e-5, 3e-3), WINS),
    "over-trained generator": (GAN, rates(1e-2, 1e-5), NEVER),
    "over-trained, relativistic": (GAN, PAIRED | rates(1e-2, 1e-5), NEVER),
    "collapsed": (GAN, FREE | SLOW | rates(1e-2, 1e-2), NEVER),
    "collapsed, relativistic": (GAN, PAIRED | FREE | SLOW | rates(1e-2, 5e-3), NEVER),
    "diffusion, learning rate x 300": ("digits", SMALL | BLOWN, ("not finite or spike", "condition ignored")),
    "VAE, weight 1": ("faces-small", FACES | STEADY | {"loss.weights.mse": 1.0}, ("KL collapse",)),
}  # fmt: skip


def trained(folder: Path, case: str, seed: int) -> RunDirectory:
    """The finished run of a case, trained if need be."""
    recipe, changes, _ = CASES[case]
    name = f"{case.replace(',', '').replace(' ', '-')}-{seed}"
    there = RunDirectory(folder / name)
    if (there.path / RUN).is_file() and summary(there).status == "finished":
        return there
    return begin(load(recipe, changes | {"train.seed": seed}), folder, name, World(), Show())


def judged(run: RunDirectory, right: tuple[str, ...]) -> tuple[str, str]:
    """Of a run: "right", "late", "missed", "false alarm" or "well", and its verdicts in words."""
    begun = [entry.fields for entry in run.journal().of_kind("verdict") if entry.fields["begins"]]
    told = ", ".join(f"{own['name']} at {own['step']}" for own in begun) or "none"
    if not right:
        return ("false alarm" if begun else "well"), told
    steps = [own["step"] for own in begun if own["name"] in right]
    if not steps:
        return "missed", told
    return ("right" if min(steps) <= IN_TIME * run.info().steps else "late"), told


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("seeds", nargs="*", type=int, default=(0, 1))
    parser.add_argument("--case", action="append", choices=CASES, help="one of the runs; all unless stated")
    asked = parser.parse_args()
    print("| run | outcome by seed | verdicts |\n|---|---|---|")
    for case in asked.case or CASES:
        outcomes = [judged(trained(asked.folder, case, seed), CASES[case][2]) for seed in asked.seeds]
        print(f"| {case} | {', '.join(outcome for outcome, _ in outcomes)} | "
              f"{'; '.join(told for _, told in outcomes)} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
